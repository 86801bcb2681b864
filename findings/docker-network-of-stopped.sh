#!/usr/bin/env bash
# Usage: findings/docker-network-of-stopped.sh
#
# Assumption: a network cannot be removed while a container has it in its configuration.
# Behaviour: Docker looks only at running containers. It removes the network of a stopped
# container, whose next start fails; a new network with the same name does not help, since
# the container has the id of the old one.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker network create shop >/dev/null
docker create --name app --network shop busybox sleep 1000 >/dev/null
docker start app >/dev/null
docker stop --time 0 app >/dev/null
{
    echo "remove the network: $(code DELETE /networks/shop)"
    echo "start: $(code POST /containers/app/start)"
    docker network create shop >/dev/null
    echo "start, after it was made again: $(code POST /containers/app/start)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
remove the network: 204
start: 404
start, after it was made again: 404
EXPECTED
