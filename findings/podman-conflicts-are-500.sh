#!/usr/bin/env bash
# Usage: findings/podman-conflicts-are-500.sh
#
# Assumption: through its Docker API, Podman answers conflicts and mistakes with the statuses
# of Docker: 409 and 400. A client may repeat requests that failed with 5xx.
# Behaviour: most of them are 500, so that only the text tells a conflict from a fault of
# the engine. The comments have Docker's status.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

for name in app other stopped; do docker create --name $name busybox sleep 1000 >/dev/null; done
docker start app >/dev/null
docker network create shop >/dev/null
body='{"Image": "busybox", "Cmd": ["true"]}'
{
    echo "create, the name is taken: $(code POST '/containers/create?name=app' "$body")"           # 409
    echo "create, no valid name: $(code POST '/containers/create?name=%20' "$body")"               # 400
    echo "create, unknown capability: $(code POST /containers/create '{"Image": "busybox", "Cmd": ["true"], "HostConfig": {"CapAdd": ["NONE_SUCH"]}}')" # 400
    echo "rename, the name is taken: $(code POST '/containers/other/rename?name=app')"             # 409
    echo "remove a running container: $(code DELETE /containers/app)"                              # 409
    echo "pause one that is not running: $(code POST /containers/stopped/pause)"                   # 409
    echo "execute in one that is not running: $(code POST /containers/stopped/exec '{"Cmd": ["true"]}')" # 409
    echo "kill one that is not running: $(code POST /containers/stopped/kill)"                     # 409
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
create, the name is taken: 500
create, no valid name: 500
create, unknown capability: 500
rename, the name is taken: 500
remove a running container: 500
pause one that is not running: 500
execute in one that is not running: 500
kill one that is not running: 409
EXPECTED
