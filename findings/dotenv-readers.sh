#!/usr/bin/env bash
# Usage: findings/dotenv-readers.sh
#
# Assumption: what is not special in a shell means the same to all readers of .env files.
# Behaviour: they disagree on one file that each of them accepts. A # within a word starts a
# comment for dotenv of npm, which also takes backquotes for quotes. $NAME is replaced only
# by Compose, ${NAME} also by python-dotenv, neither by dotenv. What follows a closing quote
# is dropped by Compose, belongs to the value for dotenv, and makes python-dotenv skip the
# line.
# (Debian: docker-compose 2.40.3; PyPI: python-dotenv 1.1.1; npm: dotenv 17.2.3)
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/compose.sh"
install_compose

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-dotenv==1.1.1
npm install --silent --prefix node dotenv@17.2.3 >/dev/null
echo 'python-dotenv 1.1.1, dotenv 17.2.3'
cat >file.env <<'ENV'
HOST=shop
HASH=a#b
NAME=$HOST-1
BRACES=${HOST}-1
DEFAULT=${PORT:-80}
BACKQUOTES=`shop`
AFTER="a" b
ENV
echo 'services: {app: {image: busybox, env_file: file.env}}' >compose.yaml
# The shell must not know the variables.
unset HOST PORT
config | jq '.services.app.environment' >compose.json
venv/bin/python -c 'import dotenv, json; print(json.dumps(dotenv.dotenv_values("file.env")))' >python.json 2>/dev/null
node -e 'console.log(JSON.stringify(require("./node/node_modules/dotenv").parse(require("fs").readFileSync("file.env"))))' >node.json
for name in HASH NAME BRACES DEFAULT BACKQUOTES AFTER; do
    echo "$name: $(jq -r --arg name $name -s 'map(.[$name] // "(nothing)") | join(" | ")' compose.json python.json node.json)"
done | tee actual.txt
expect <<'EXPECTED'
HASH: a#b | a#b | a
NAME: shop-1 | $HOST-1 | $HOST-1
BRACES: shop-1 | shop-1 | ${HOST}-1
DEFAULT: 80 | 80 | ${PORT:-80}
BACKQUOTES: `shop` | `shop` | shop
AFTER: a | (nothing) | "a" b
EXPECTED
