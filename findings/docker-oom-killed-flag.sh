#!/usr/bin/env bash
# Usage: findings/docker-oom-killed-flag.sh
#
# Assumption: OOMKilled tells that the container's program was killed for lack of memory.
# Behaviour: it tells that some process in the container was, such as a command executed
# there. It is true while the program runs on, and also after the program has ended by
# itself with exit code 0.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker run --detach --name app --memory 20m busybox sh -c 'while [ ! -e /end ]; do sleep 0.2; done' >/dev/null
oom() { [[ $(state app '{{.State.OOMKilled}}') == true ]]; }
{
    # shellcheck disable=SC2016 # the shell in the container expands
    docker exec app sh -c 'x=a; while :; do x=$x$x; done' 2>/dev/null || echo "the command: exit code $?"
    wait_for 10 oom
    state app '{{.State.Status}}: OOMKilled={{.State.OOMKilled}}'
    docker exec app touch /end
    wait_for 10 is exited app
    state app '{{.State.Status}}: OOMKilled={{.State.OOMKilled}} ExitCode={{.State.ExitCode}}'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
the command: exit code 137
running: OOMKilled=true
exited: OOMKilled=true ExitCode=0
EXPECTED
