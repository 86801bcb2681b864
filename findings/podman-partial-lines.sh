#!/usr/bin/env bash
# Usage: findings/podman-partial-lines.sh
#
# Assumption: a line of a log is what ends with a line break. What a program writes in two
# parts is one line with one time.
# Behaviour: Podman delivers each part as soon as it was written, as a frame with a time of
# its own, and lines of the other stream come in between. With timestamps, one line becomes
# two. Docker waits for the line break.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker run --detach --name app busybox sh -c 'printf "one, "; sleep 1; echo error >&2; sleep 1; echo two' >/dev/null
wait_for 10 is exited app
{
    docker logs app 2>&1
    docker logs --timestamps app 2>&1 | sed 's/20[0-9T:.-]*Z/TIME/g'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
one, error
two
TIME one, TIME error
TIME two
EXPECTED
