#!/usr/bin/env bash
# Usage: findings/podman-loopback-port-and-neighbours.sh
#
# Assumption: a port that is published on 127.0.0.1 can be reached from its host only.
# Behaviour: netavark redirects what is sent to 127.0.0.1, from wherever it comes. Another
# machine on the same network sends it to the host's hardware address, or asks the container
# at its own address. Nothing stops it unless the host drops what it forwards. Docker did
# the same (seen with 20.10.24, also if the host drops what it forwards); 28.5.2 does not.
# (Debian: podman 5.8.6, netavark 1.17.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

# The neighbour is a network namespace at the other end of a cable.
on_engine ip netns add neighbour
neighbour() { on_engine ip netns exec neighbour "$@"; }
on_engine ip link add cable type veth peer name cable netns neighbour
on_engine ip addr add 192.0.2.1/24 dev cable
on_engine ip link set cable up
neighbour ip addr add 192.0.2.2/24 dev cable
neighbour ip link set cable up

docker run --detach --name app --publish 127.0.0.1:8080:80 busybox \
    sh -c 'echo hello >/tmp/page; exec httpd -f -h /tmp' >/dev/null
address=$(state app '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
# get WHERE ADDRESS PORT: asks for the page
get() {
    # shellcheck disable=SC2016 # the inner shell expands
    "$1" timeout 4 bash -c 'exec 3<>"/dev/tcp/$0/$1"; printf "GET /page HTTP/1.0\r\n\r\n" >&3; tail -n 1 <&3' "$2" "$3" \
        2>/dev/null || echo nothing
}
is_up() { [[ $(get on_engine 127.0.0.1 8080) == hello ]]; }
wait_for 10 is_up
{
    echo "host, 127.0.0.1:8080: $(get on_engine 127.0.0.1 8080)"
    echo "neighbour, the host's address: $(get neighbour 192.0.2.1 8080)"
    neighbour ip route add "$address" via 192.0.2.1
    echo "neighbour, the container's address: $(get neighbour "$address" 80)"
    # 127.0.0.1 is no longer the neighbour itself.
    neighbour sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet'
    neighbour ip route del local 127.0.0.1 table local 2>/dev/null || true
    neighbour ip route add 127.0.0.1 via 192.0.2.1 src 192.0.2.2
    echo "neighbour, 127.0.0.1:8080 sent to the host: $(get neighbour 127.0.0.1 8080)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
host, 127.0.0.1:8080: hello
neighbour, the host's address: nothing
neighbour, the container's address: hello
neighbour, 127.0.0.1:8080 sent to the host: hello
EXPECTED
