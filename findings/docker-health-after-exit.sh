#!/usr/bin/env bash
# Usage: findings/docker-health-after-exit.sh
#
# Assumption: a container that has ended has no health, or the last one it had.
# Behaviour: it is unhealthy, however it has ended: by itself with exit code 0 while it was
# healthy, or by a stop. The filter health=unhealthy lists it, and the failing streak is 0.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

healthy() { [[ $(state app '{{.State.Health.Status}}') == healthy ]]; }
run() { docker run --detach --name app --health-cmd true --health-interval 1s busybox sh -c 'while [ ! -e /end ]; do sleep 0.2; done' >/dev/null; }
report() {
    wait_for 10 is exited app
    state app "$1, exit code {{.State.ExitCode}}: {{.State.Health.Status}}, failing streak {{.State.Health.FailingStreak}}"
    echo "  unhealthy containers: $(docker ps --all --filter health=unhealthy --format '{{.Names}}')"
    docker rm --force app >/dev/null
}
{
    run
    wait_for 20 healthy
    docker exec app touch /end
    report 'ended by itself'
    run
    wait_for 20 healthy
    docker stop --time 0 app >/dev/null
    report 'stopped'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
ended by itself, exit code 0: unhealthy, failing streak 0
  unhealthy containers: app
stopped, exit code 137: unhealthy, failing streak 0
  unhealthy containers: app
EXPECTED
