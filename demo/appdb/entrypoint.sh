#!/bin/sh
# Initialises the database on the first start, then executes postgres.
#
# POSTGRES_PASSWORD (required), POSTGRES_USER (default: postgres) and POSTGRES_DB (default:
# the user) have the same meaning as in the official image and only affect the first start.
# Arguments are passed to postgres. postgres does not listen on TCP before the database is
# complete, so a TCP ping checks readiness.
set -eu

user=${POSTGRES_USER:-postgres}
db=${POSTGRES_DB:-$user}
# Temporary directory: an interrupted initialisation is repeated.
new=$PGDATA/.new

# Process 1 receives only signals that it handles.
trap 'exit 143' INT TERM

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

initialise() {
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo 'appdb: POSTGRES_PASSWORD is not set; required on the first start' >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    if [ -e "$new" ]; then
        find "$PGDATA" -mindepth 1 -delete
    elif [ -n "$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found)" ]; then
        echo "appdb: $PGDATA is not empty and contains no database; use a separate volume" >&2
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
    # PG_VERSION marks a complete database, so move it last.
    find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv {} "$PGDATA" \;
    mv "$new/PG_VERSION" "$PGDATA"
}

[ -s "$PGDATA/PG_VERSION" ] || initialise
rm -rf "$new"
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    postgres -D "$PGDATA" -c listen_addresses='*' "$@"
