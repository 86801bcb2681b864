#!/usr/bin/env bash
# Usage: findings/podman-names-of-images.sh
#
# Assumption: the list of images and the configuration of a container have the names that
# were given to the engine, such as `shop/api:1`.
# Behaviour: Podman lists full names only. A short name becomes localhost/… by `podman tag`
# and docker.io/… through the Docker API. The short name finds the image all the same, but a
# tool that looks for it in the list does not.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker import - shop/api:1 <"$dir/busybox.tar" >/dev/null
on_engine podman --log-level=error tag busybox shop/web:1 2>/dev/null
docker create --name app shop/api:1 true >/dev/null
{
    api GET /images/json | jq -r '.[].RepoTags[]' | sort
    docker image inspect --format 'shop/api:1 is {{.RepoTags}}' shop/api:1
    echo "image of the container: $(api GET /containers/json?all=true | jq -r '.[0].Image')"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
docker.io/library/busybox:latest
docker.io/shop/api:1
localhost/shop/web:1
shop/api:1 is [docker.io/shop/api:1]
image of the container: docker.io/shop/api:1
EXPECTED
