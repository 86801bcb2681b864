#!/usr/bin/env bash
# Usage: findings/docker-on-failure-after-engine-restart.sh
#
# Assumption: the policy on-failure does not start containers when the engine starts, and
# least of all those that were stopped by hand.
# Behaviour: it starts one that was stopped by `docker stop` and had to be killed, since its
# exit code is 137, and one that ran when the engine was stopped. One that has used up its
# attempts stays down, and so does one that was stopped with exit code 0.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

run() { docker run --detach --name "$1" --restart "$2" busybox sh -c "$3" >/dev/null; }
run stopped-137 on-failure 'sleep 1000'
run stopped-0 on-failure 'trap "exit 0" TERM; while :; do sleep 0.1; done'
run used-up on-failure:1 'exit 4'
run running on-failure 'sleep 1000'
run unless-stopped unless-stopped 'sleep 1000'
docker stop --time 1 stopped-137 stopped-0 unless-stopped >/dev/null
wait_for 20 is exited used-up
{
    report() { for name in stopped-137 stopped-0 used-up running unless-stopped; do state $name "$1 $name: {{.State.Status}} {{.State.ExitCode}}"; done; }
    report before
    restart_engine
    sleep 2
    report after
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
before stopped-137: exited 137
before stopped-0: exited 0
before used-up: exited 4
before running: running 0
before unless-stopped: exited 137
after stopped-137: running 0
after stopped-0: exited 0
after used-up: exited 4
after running: running 0
after unless-stopped: exited 137
EXPECTED
