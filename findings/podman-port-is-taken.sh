#!/usr/bin/env bash
# Usage: findings/podman-port-is-taken.sh
#
# Assumption: a container that could not be started has an exit code other than 0.
# Behaviour: if its port on the host is taken, the start fails with status 500, and the
# container stays as created, with exit code 0. Docker sets 128. What is left to tell the
# failed start from one that never was is the text in State.Error.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker run --detach --name first --publish 8080:80 busybox sleep 1000 >/dev/null
docker create --name second --publish 8080:80 busybox sleep 1000 >/dev/null
{
    echo "start: $(code POST /containers/second/start)"
    state second '{{.State.Status}}, exit code {{.State.ExitCode}}, {{.State.Error}}'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
start: 500
created, exit code 0, cannot listen on the TCP port: listen tcp4 :8080: bind: address already in use
EXPECTED
