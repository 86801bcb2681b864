#!/usr/bin/env bash
# Usage: findings/docker-name-on-two-networks.sh
#
# Assumption: a name that several containers have, on several networks that the asking
# container is in, resolves to the addresses of all of them.
# Behaviour: Docker's name server answers from the first network that knows the name. A
# container that has the name only on the second network gets no requests. NAME.NETWORK
# asks a certain network. Podman answers with all addresses.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker network create first >/dev/null
docker network create second >/dev/null
docker run --detach --name client --network first busybox sleep 1000 >/dev/null
docker network connect second client
docker run --detach --name one --network first --network-alias api busybox sleep 1000 >/dev/null
docker run --detach --name two --network second --network-alias api busybox sleep 1000 >/dev/null
answer() {
    local addresses
    addresses=$(docker exec client nslookup "$1" 127.0.0.11 | sed -n 's/^Address: //p' | sort)
    for container in one two; do
        grep -qxF "$(state $container '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')" <<<"$addresses" && printf ' %s' $container
    done
    echo
}
{
    echo "api:$(answer api)"
    echo "api.first:$(answer api.first)"
    echo "api.second:$(answer api.second)"
    docker stop --time 0 one >/dev/null
    echo "api, one is stopped:$(answer api)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
api: one
api.first: one
api.second: two
api, one is stopped: two
EXPECTED
