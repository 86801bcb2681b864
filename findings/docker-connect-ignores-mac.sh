#!/usr/bin/env bash
# Usage: findings/docker-connect-ignores-mac.sh
#
# Assumption: a connection to a network takes the hardware address of its endpoint settings,
# as the creation of a container does.
# Behaviour: `POST /networks/NAME/connect` ignores it and answers 200. The container gets
# another one, also after its next start. A container that was disconnected can have its old
# address only if it is created again.
# (Debian: docker.io 28.5.2, API 1.51)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

address=02:42:ac:11:07:01
endpoint="{\"MacAddress\": \"$address\"}"
shown() {
    local found
    found=$(docker exec app cat /sys/class/net/eth0/address)
    [[ $found == "$address" ]] && echo "the one that was set" || echo "another one"
}
docker network create net >/dev/null
{
    api POST '/v1.51/containers/create?name=app' "{\"Image\": \"busybox\", \"Cmd\": [\"sleep\", \"1000\"],
        \"HostConfig\": {\"NetworkMode\": \"net\"},
        \"NetworkingConfig\": {\"EndpointsConfig\": {\"net\": $endpoint}}}" >/dev/null
    docker start app >/dev/null
    echo "created: $(shown)"
    docker network disconnect net app
    echo "connect: $(code POST /v1.51/networks/net/connect "{\"Container\": \"app\", \"EndpointConfig\": $endpoint}")"
    echo "connected: $(shown)"
    docker restart --time 0 app >/dev/null
    echo "restarted: $(shown)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
created: the one that was set
connect: 200
connected: another one
restarted: another one
EXPECTED
