#!/usr/bin/env bash
# Usage: findings/containerd-build-prints-other-id.sh
#
# Assumption: the id that `docker build --quiet` prints is the id of the image.
# Behaviour: with containerd's image store and without an attestation, it is the digest of
# the configuration. The image has the digest of its manifest as id; the printed one is
# unknown to the engine. With an attestation, and with the classic store, the id is right.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

mkdir "$dir/context"
printf 'FROM busybox\nRUN echo hello >/hello\n' >"$dir/context/Dockerfile"
check() {
    local printed
    printed=$(docker build --quiet --tag app "$@" "$dir/context")
    [[ $printed == "$(docker image inspect --format '{{.Id}}' app)" ]] && echo '  it is the id of the image' || echo '  it is not the id of the image'
    docker run --rm "$printed" cat /hello >/dev/null 2>&1 && echo '  a container can be run from it' || echo '  no container can be run from it'
}
{
    echo 'printed with an attestation:'
    check
    echo 'printed without:'
    check --provenance=false
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
printed with an attestation:
  it is the id of the image
  a container can be run from it
printed without:
  it is not the id of the image
  no container can be run from it
EXPECTED
