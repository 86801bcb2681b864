#!/bin/sh
# Creates an application user unless the name exists. Prints the id.
set -eu

psql --username="${POSTGRES_USER:-postgres}" --dbname="${POSTGRES_DB:-postgres}" \
    --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 --set=name="$1" <<'END'
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS users (id serial PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO users (name) SELECT :'name' WHERE NOT EXISTS (SELECT FROM users WHERE name = :'name');
SELECT id FROM users WHERE name = :'name';
END
