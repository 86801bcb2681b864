#!/usr/bin/env bash
# Usage: findings/docker-start-period-slows.sh
#
# Assumption: a start period only forgives failures. A container whose check runs every
# second is healthy as early with it as without.
# Behaviour: during the start period the start interval applies, which is 5 seconds if it
# is not set, even if the interval is shorter. Clients of an API before 1.44 cannot set it.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

healthy() { [[ $(state "$1" '{{.State.Health.Status}}') == healthy ]]; }
run() { docker run --detach --name "$1" --health-cmd true --health-interval 1s "${@:2}" busybox sleep 1000 >/dev/null; }
after() {
    local started healthy
    wait_for 20 healthy "$1"
    started=$(date --date "$(state "$1" '{{.State.StartedAt}}')" +%s)
    healthy=$(date --date "$(state "$1" '{{json (index .State.Health.Log 0).Start}}' | tr -d '"')" +%s)
    ((healthy - started >= 4)) && echo "$1: first check after 5 s" || echo "$1: first check after 1 s"
}
{
    run 'interval'
    after interval
    run 'start-period' --health-start-period 30s
    after start-period
    run 'start-period-and-interval' --health-start-period 30s --health-start-interval 1s
    after start-period-and-interval
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
interval: first check after 1 s
start-period: first check after 5 s
start-period-and-interval: first check after 1 s
EXPECTED
