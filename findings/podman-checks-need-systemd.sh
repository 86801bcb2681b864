#!/usr/bin/env bash
# Usage: findings/podman-checks-need-systemd.sh
#
# Assumption: an engine that accepts a health check runs it.
# Behaviour: Podman lets timers of systemd run the checks. Where there is none, as in a
# container or on another init, the container is `starting` for ever, without a warning.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

{
    api POST '/containers/create?name=app' '{"Image": "busybox", "Cmd": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000}}' | jq -c .Warnings
    echo "start: $(code POST /containers/app/start)"
    sleep 5
    state app 'after 5 s: {{.State.Health.Status}}, {{len .State.Health.Log}} checks'
    docker exec app true
    on_engine podman --log-level=error healthcheck run app 2>/dev/null
    state app 'after podman healthcheck run: {{.State.Health.Status}}'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
[]
start: 204
after 5 s: starting, 0 checks
after podman healthcheck run: healthy
EXPECTED
