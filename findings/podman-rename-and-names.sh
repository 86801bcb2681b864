#!/usr/bin/env bash
# Usage: findings/podman-rename-and-names.sh
#
# Assumption: a container that is renamed has its new name on the network.
# Behaviour: with aardvark-dns, the old name still resolves and the new one does not, until
# the container is started again. Docker's name server changes at once.
# (Debian: podman 5.8.6, netavark 1.17.2, aardvark-dns 1.17.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker network create shop >/dev/null
docker run --detach --name client --network shop busybox sleep 1000 >/dev/null
docker run --detach --name old --network shop busybox sleep 1000 >/dev/null
answers_name() { docker exec client nslookup "$1" >/dev/null 2>&1 && echo "$2: $1 resolves" || echo "$2: $1 does not resolve"; }
{
    docker rename old new
    answers_name old renamed
    answers_name new renamed
    docker restart --time 0 new >/dev/null
    answers_name old restarted
    answers_name new restarted
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
renamed: old resolves
renamed: new does not resolve
restarted: old does not resolve
restarted: new resolves
EXPECTED
