#!/usr/bin/env bash
# Usage: findings/podman-events.sh
#
# Assumption: Podman's Docker API sends the events that Docker sends.
# Behaviour: the end of a container is `die` and `cleanup`, without kill, stop or anything
# of the network; its removal is `remove` instead of `destroy`. A restart is reported first,
# before the old process has ended. A rename does not have the old name.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

curl -sN --unix-socket "$dir/engine.sock" http://engine/events >>"$dir/events.json" &
events() { jq -r 'select(.Type != "image") | .Type + " " + .Action' "$dir/events.json"; }
has() { [[ $(events) == *"$1"* ]]; }
# `stop` is sent now and then only.
actions() {
    local end=$1
    shift
    # What came before is not counted.
    sleep 1
    : >"$dir/events.json"
    docker "$@" >/dev/null
    wait_for 20 has "$end"
    echo "$1: $(events | grep -v 'container stop' | sed 's/container //' | paste -sd,)"
}
docker network create shop >/dev/null
docker create --name app --network shop busybox sleep 1000 >/dev/null
{
    actions 'container start' start app
    actions 'container cleanup' stop --time 0 app
    docker start app >/dev/null
    actions 'container start' restart --time 0 app
    actions 'container rename' rename app new
    echo "  attributes: $(jq -r 'select(.Action == "rename") | .Actor.Attributes | keys | join(" ")' "$dir/events.json")"
    actions 'container remove' rm --force new
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
start: init,start
stop: die,cleanup
restart: restart,die,init,start
rename: rename
  attributes: image name podId
rm: die,remove
EXPECTED
