#!/usr/bin/env bash
# Usage: findings/docker-paused-is-unhealthy.sh
#
# Assumption: a paused container keeps its health, or has none.
# Behaviour: it is unhealthy from the moment of the pause, without an event health_status,
# and with a failing streak of 0. After the pause it stays so until the next check. Who
# restarts unhealthy containers must not take a pause for an illness.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker run --detach --name app --health-cmd true --health-interval 3s busybox sleep 1000 >/dev/null
healthy() { [[ $(state app '{{.State.Health.Status}}') == healthy ]]; }
{
    wait_for 20 healthy
    since=$(date +%s.%N)
    docker pause app >/dev/null
    state app '{{.State.Status}}: {{.State.Health.Status}}, failing streak {{.State.Health.FailingStreak}}'
    docker unpause app >/dev/null
    state app '{{.State.Status}}: {{.State.Health.Status}}'
    wait_for 20 healthy
    state app 'later: {{.State.Health.Status}}'
    docker events --since "$since" --until "$(date +%s.%N)" --filter type=container --format 'event {{.Action}}' | grep -v exec
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
paused: unhealthy, failing streak 0
running: unhealthy
later: healthy
event pause
event unpause
event health_status: healthy
EXPECTED
