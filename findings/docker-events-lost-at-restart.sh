#!/usr/bin/env bash
# Usage: findings/docker-events-lost-at-restart.sh
#
# Assumption: a client that was cut off by a restart of the engine gets what it has missed
# with `since`.
# Behaviour: events are only in memory. Whatever happened before the engine has started is
# not reported, also not the ends of the containers that the engine has stopped itself.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

since=$(date +%s.%N)
docker run --detach --name stays --restart always busybox sleep 1000 >/dev/null
docker run --detach --name ends busybox sleep 1000 >/dev/null
events() { docker events --since "$since" --until "$(date +%s.%N)" --filter type=container --format "$1: {{.Action}} {{.Actor.Attributes.name}}"; }
{
    events before
    restart_engine
    wait_for 20 is running stays
    sleep 1
    events after
    state ends 'ends: {{.State.Status}}, exit code {{.State.ExitCode}}'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
before: create stays
before: start stays
before: create ends
before: start ends
after: start stays
ends: exited, exit code 137
EXPECTED
