#!/usr/bin/env bash
# Usage: findings/docker-signal-and-engine-restart.sh
#
# Assumption: a container with the policy unless-stopped that nobody has stopped is started
# again with the engine, also after `docker kill --signal HUP` has made it reload.
# Behaviour: any signal that Docker has sent counts as a stop here, also if the container has
# a stop signal of its own. It runs until the engine or the machine restarts, and then stays
# down. With the policy always it is started.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

logged() { docker logs "$1" | grep -q reloaded; }
run() {
    docker run --detach --name "$1" --restart "$2" --stop-signal SIGTERM busybox \
        sh -c 'trap "echo reloaded" HUP; trap "exit 0" TERM; while :; do sleep 0.1; done' >/dev/null
}
run always-signalled always
run unless-stopped unless-stopped
run unless-stopped-signalled unless-stopped
sleep 0.5
for name in always-signalled unless-stopped-signalled; do
    docker kill --signal HUP $name >/dev/null
    wait_for 10 logged $name
done
{
    report() { for name in always-signalled unless-stopped{,-signalled}; do state "$name" "$1 $name: {{.State.Status}}"; done; }
    report before
    restart_engine
    wait_for 20 is running unless-stopped
    sleep 2
    report after
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
before always-signalled: running
before unless-stopped: running
before unless-stopped-signalled: running
after always-signalled: running
after unless-stopped: running
after unless-stopped-signalled: exited
EXPECTED
