#!/bin/sh
# Initialises the database on the first start, then becomes postgres.
#
# POSTGRES_PASSWORD (required), POSTGRES_USER (postgres) and POSTGRES_DB (the user's
# name) mean what they mean to the official image: they count on the first start only.
# Arguments go to postgres. Nothing listens on TCP before the database is complete,
# so a TCP ping means ready.
set -eu

user=${POSTGRES_USER:-postgres}
db=${POSTGRES_DB:-$user}
# Created here until it is complete: an interrupted first start starts over.
new=$PGDATA/.new

# Process 1 receives only signals that it handles.
trap 'exit 143' INT TERM

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

initialise() {
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo 'appdb: POSTGRES_PASSWORD is not set; the first start needs it' >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    if [ -e "$new" ]; then
        find "$PGDATA" -mindepth 1 -delete
    elif [ -n "$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found)" ]; then
        echo "appdb: $PGDATA is not empty, and no database; give it a volume of its own" >&2
        exit 1
    fi
    chown postgres:postgres "$PGDATA"
    chmod 0700 "$PGDATA"
    as_postgres mkdir -m 0700 "$new"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    chown postgres /tmp/password
    as_postgres initdb --pgdata="$new" --username="$user" --pwfile=/tmp/password --encoding=UTF8 \
        --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    if [ "$db" != postgres ]; then
        # A name may contain quotes.
        printf 'CREATE DATABASE "%s"\n' "$(printf %s "$db" | sed 's/"/""/g')" |
            as_postgres postgres --single -j -D "$new" postgres >/dev/null
    fi
    # PG_VERSION marks a complete database, so it is moved last.
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv {} "$PGDATA" \;
    mv "$new/PG_VERSION" "$PGDATA"
}

[ -s "$PGDATA/PG_VERSION" ] || initialise
rm -rf "$new"
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    postgres -D "$PGDATA" -c listen_addresses='*' "$@"
