#!/usr/bin/env bash
# Usage: findings/docker-proxy-accepts-early.sh
#
# Assumption: a connection to a published port is refused until the program listens.
# Behaviour: on loopback addresses, docker-proxy accepts the connection at once, and closes
# it when it cannot reach the program: a check that only connects succeeds too early. With
# the option userland-proxy=false, and at the address of the container, the connection is
# refused.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker run --detach --name app --publish 127.0.0.1:8080:80 busybox sleep 1000 >/dev/null
connect() {
    # shellcheck disable=SC2016 # the inner shell expands
    on_engine bash -c '
        exec 3<>"/dev/tcp/$0/$1" || { echo refused; exit; }
        IFS= read -r -t 5 -u 3 line; code=$?
        ((code > 128)) && echo "connected" || echo "connected, then closed without a byte"' "$@" 2>/dev/null
}
address=$(state app '{{.NetworkSettings.Networks.bridge.IPAddress}}')
{
    echo "nothing listens, published port: $(connect 127.0.0.1 8080)"
    echo "nothing listens, address of the container: $(connect "$address" 80)"
    docker exec --detach app nc -l -p 80 -e cat
    sleep 1
    echo "something listens, published port: $(connect 127.0.0.1 8080)"
    docker rm --force app >/dev/null
    USERLAND_PROXY=false
    configure_docker
    restart_engine
    docker run --detach --name app --publish 127.0.0.1:8080:80 busybox sleep 1000 >/dev/null
    echo "nothing listens, published port, userland-proxy=false: $(connect 127.0.0.1 8080)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
nothing listens, published port: connected, then closed without a byte
nothing listens, address of the container: refused
something listens, published port: connected
nothing listens, published port, userland-proxy=false: refused
EXPECTED
