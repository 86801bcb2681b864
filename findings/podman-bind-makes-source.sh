#!/usr/bin/env bash
# Usage: findings/podman-bind-makes-source.sh
#
# Assumption: a mount of type bind whose source does not exist is an error, other than an
# entry of Binds, for which Docker makes the directory.
# Behaviour: through its Docker API, Podman makes the directory for both. A misspelled path
# of a file becomes an empty directory on the host.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

{
    api POST '/containers/create?name=app' "{\"Image\": \"busybox\", \"Cmd\": [\"true\"],
        \"HostConfig\": {\"Mounts\": [{\"Type\": \"bind\", \"Source\": \"$dir/setings.yaml\", \"Target\": \"/settings.yaml\"}]}}" >/dev/null
    echo "start: $(code POST /containers/app/start)"
    stat --format 'on the host: %F' "$dir/setings.yaml"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
start: 204
on the host: directory
EXPECTED
