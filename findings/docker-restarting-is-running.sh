#!/usr/bin/env bash
# Usage: findings/docker-restarting-is-running.sh
#
# Assumption: State.Running is true only if the container has a process.
# Behaviour: while a container waits for its next start by policy, Running is true together
# with Restarting, and Pid is 0. The filter status=running leaves it out all the same, and
# nothing can be executed in it.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker run --detach --name app --restart always busybox sh -c 'exit 3' >/dev/null
wait_for 20 is restarting app
# Each wait is twice as long as the last.
sleep 5
wait_for 20 is restarting app
{
    state app 'Status={{.State.Status}} Running={{.State.Running}} Restarting={{.State.Restarting}} Pid={{.State.Pid}} ExitCode={{.State.ExitCode}}'
    echo "containers with status=running: $(docker ps --quiet --filter status=running | wc -l)"
    docker exec app true 2>&1 | sed 's/[0-9a-f]\{64\}/ID/' || true
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
Status=restarting Running=true Restarting=true Pid=0 ExitCode=3
containers with status=running: 0
Error response from daemon: Container ID is restarting, wait until the container is running
EXPECTED
