#!/usr/bin/env bash
# Usage: findings/podman-stop-of-paused.sh
#
# Assumption: a paused container can be stopped and restarted, as with Docker.
# Behaviour: both fail with 500, and the container stays paused. `kill` and `rm --force`
# work; so does a stop after `unpause`.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker run --detach --name app busybox sleep 1000 >/dev/null
docker pause app >/dev/null
{
    echo "stop: $(code POST '/containers/app/stop?t=1'), $(state app '{{.State.Status}}')"
    echo "restart: $(code POST '/containers/app/restart?t=1'), $(state app '{{.State.Status}}')"
    code=$(code POST /containers/app/kill)
    wait_for 10 is exited app
    echo "kill: $code, exited"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
stop: 500, paused
restart: 500, paused
kill: 204, exited
EXPECTED
