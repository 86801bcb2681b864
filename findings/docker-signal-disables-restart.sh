#!/usr/bin/env bash
# Usage: findings/docker-signal-disables-restart.sh
#
# Assumption: `docker kill --signal HUP`, a common way to make a program reload, leaves the
# restart policy alone.
# Behaviour: unless the container or its image sets a stop signal, any signal that Docker
# sends counts as a stop. The program handles it and goes on; when it crashes later, with
# `restart: always`, it is not restarted. With a stop signal, even the default one, only
# that signal counts.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

logged() { docker logs app | grep -q "$1"; }
program='trap "echo reloaded" HUP; while [ ! -e /crash ]; do sleep 0.2; done; rm /crash; echo crashed; exit 5'
{
    for option in '' '--stop-signal=SIGTERM'; do
        docker run --detach --name app --restart always ${option:+"$option"} busybox sh -c "$program" >/dev/null
        sleep 0.5
        docker kill --signal HUP app >/dev/null
        wait_for 10 logged reloaded
        docker exec app touch /crash
        wait_for 10 logged crashed
        sleep 2
        echo "${option:-no stop signal}: $(docker logs app | xargs), $(state app '{{.State.Status}}, restarted {{.RestartCount}} times')"
        docker rm --force app >/dev/null
    done
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
no stop signal: reloaded crashed, exited, restarted 0 times
--stop-signal=SIGTERM: reloaded crashed, running, restarted 1 times
EXPECTED
