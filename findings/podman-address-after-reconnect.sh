#!/usr/bin/env bash
# Usage: findings/podman-address-after-reconnect.sh
#
# Assumption: a container that leaves a network and joins it again has the address that it
# had, if nobody else has taken it, as with Docker.
# Behaviour: netavark gives the next one. What was told the address loses the container.
# (Debian: podman 5.8.6, netavark 1.17.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker network create shop >/dev/null
docker run --detach --name app --network shop busybox sleep 1000 >/dev/null
address() { state app '{{.NetworkSettings.Networks.shop.IPAddress}}'; }
before=$(address)
docker network disconnect shop app
docker network connect shop app
after=$(address)
{
    ((${after##*.} == ${before##*.} + 1)) && echo 'connected again: the next address'
    [[ $before != "$after" ]] && echo 'not the same'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
connected again: the next address
not the same
EXPECTED
