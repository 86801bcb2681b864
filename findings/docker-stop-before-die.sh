#!/usr/bin/env bash
# Usage: findings/docker-stop-before-die.sh
#
# Assumption: the events of a stop are kill, die, stop, as Docker 20.10 sends them: the stop
# is reported when the container has ended.
# Behaviour: since then the order has changed: stop comes before die, and the network is
# left before both. The last event of a stop is die; after a kill there is no stop.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

events() { docker events --since "$since" --until "$(date +%s.%N)" --format '{{.Type}} {{.Action}}' | sed 's/container //' | paste -sd,; }
ended() { [[ $(events) == *,die* ]]; }
actions() {
    since=$(date +%s.%N)
    docker "$@" app >/dev/null
    wait_for 10 ended
    echo "$1: $(events)"
}
docker run --detach --name app busybox sleep 1000 >/dev/null
{
    actions stop --time 1
    docker start app >/dev/null
    actions kill
    docker start app >/dev/null
    actions restart --time 1
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
stop: kill,kill,network disconnect,stop,die
kill: kill,network disconnect,die
restart: kill,kill,network disconnect,stop,die,network connect,start,restart
EXPECTED
