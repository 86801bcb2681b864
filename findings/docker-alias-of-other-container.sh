#!/usr/bin/env bash
# Usage: findings/docker-alias-of-other-container.sh
#
# Assumption: the name of a container on its network belongs to it alone: another one
# cannot take it as an alias, or at least the name wins.
# Behaviour: names and aliases are equal. Both addresses are answered, and requests for the
# container by its name also reach the one with the alias.
# (Debian: docker.io 28.5.2; Podman 5.8.6 does the same)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker network create shop >/dev/null
docker run --detach --name database --network shop busybox sleep 1000 >/dev/null
docker run --detach --name other --network shop --network-alias database busybox sleep 1000 >/dev/null
docker run --detach --name client --network shop busybox sleep 1000 >/dev/null
{
    addresses=$(docker exec client nslookup database 127.0.0.11 | sed -n 's/^Address: //p')
    for container in database other; do
        grep -qxF "$(state $container '{{.NetworkSettings.Networks.shop.IPAddress}}')" <<<"$addresses" && echo "database: $container"
    done
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
database: database
database: other
EXPECTED
