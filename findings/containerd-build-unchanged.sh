#!/usr/bin/env bash
# Usage: findings/containerd-build-unchanged.sh
#
# Assumption: a build that finds every step in its cache results in the same image again.
# Behaviour: with containerd's image store, `docker build` adds an attestation with the time
# of the build, and the id of the image is the digest of the index that holds both. Each
# build has another id, although layers and configuration are the same. Without the
# attestation, and with the classic store, the id remains.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

mkdir "$dir/context"
printf 'FROM busybox\nRUN echo hello >/hello\n' >"$dir/context/Dockerfile"
ids() {
    local first second
    docker build -q -t app "$@" "$dir/context" >/dev/null
    first=$(docker image inspect --format '{{.Id}} {{.RootFS.Layers}}' app)
    docker build -q -t app "$@" "$dir/context" >/dev/null
    second=$(docker image inspect --format '{{.Id}} {{.RootFS.Layers}}' app)
    [[ ${first%% *} == "${second%% *}" ]] && printf 'the same id, ' || printf 'another id, '
    [[ ${first#* } == "${second#* }" ]] && echo 'the same layers' || echo 'other layers'
}
{
    echo "built twice: $(ids)"
    echo "built twice without attestation: $(ids --provenance=false)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
built twice: another id, the same layers
built twice without attestation: the same id, the same layers
EXPECTED
