#!/usr/bin/env bash
# Usage: findings/overlay2-untag-removes-used-image.sh
#
# Assumption: `docker rmi --force NAME` takes only the name from an image that a container
# was made from; the image stays as long as the container.
# Behaviour: with the classic store, that holds only while the container runs. The image of
# a stopped container is deleted; the container starts all the same, and its image cannot
# be inspected. containerd's store keeps it.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

import app
import work
docker run --detach --name running app sleep 1000 >/dev/null
docker create --name stopped work sleep 1000 >/dev/null
{
    for container in running stopped; do
        image=$(state $container '{{.Config.Image}}')
        docker rmi --force "$image" | sed 's/sha256:.*/its id/; s/:.*: /: /'
        docker image inspect "$(state $container '{{.Image}}')" >/dev/null 2>&1 &&
            echo "$container: its image is there" || echo "$container: its image is gone"
    done
    docker start stopped >/dev/null
    echo "stopped: starts, $(state stopped '{{.State.Status}}')"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
Untagged: app:latest
running: its image is there
Untagged: work:latest
Deleted: its id
stopped: its image is gone
stopped: starts, running
EXPECTED
