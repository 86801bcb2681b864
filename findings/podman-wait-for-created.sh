#!/usr/bin/env bash
# Usage: findings/podman-wait-for-created.sh
#
# Assumption: waiting for a container that was never started returns exit code 0, as with
# Docker, or waits.
# Behaviour: Podman returns at once, now 0 and now -1 for the same container. A client that
# takes everything but 0 for a failure reports one of a program that never ran.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker create --name app busybox true >/dev/null
{
    echo 'replies to 100 requests:'
    for _ in {1..100}; do api POST /containers/app/wait; done | sort -u
    docker start app >/dev/null
    wait_for 10 is exited app
    echo 'replies after it has run:'
    for _ in {1..100}; do api POST /containers/app/wait; done | sort -u
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
replies to 100 requests:
{"StatusCode":-1,"Error":null}
{"StatusCode":0,"Error":null}
replies after it has run:
{"StatusCode":0,"Error":null}
EXPECTED
