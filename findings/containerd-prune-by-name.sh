#!/usr/bin/env bash
# Usage: findings/containerd-prune-by-name.sh
#
# Assumption: `docker image prune --all` removes the images that no container was made from.
# Behaviour: containerd's image store also keeps the image that has by now the name which a
# container was created with, although no container was made from it. The classic store
# removes it.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

import app
docker run --detach --name one app sleep 1000 >/dev/null
import app
import other
{
    echo "before: $(docker images --format '{{.Repository}}' | sort | xargs)"
    docker image prune --all --force >/dev/null
    echo "after: $(docker images --format '{{.Repository}}' | sort | xargs)"
    used=$(docker container inspect --format '{{.Image}}' one)
    named=$(docker image inspect --format '{{.Id}}' app 2>/dev/null || echo none)
    [[ $used == "$named" ]] && echo 'app is the image of the container' || echo 'app is not the image of the container'
    docker image inspect "$used" >/dev/null && echo 'the image of the container is still there'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
before: <none> app busybox other
after: <none> app
app is not the image of the container
the image of the container is still there
EXPECTED
