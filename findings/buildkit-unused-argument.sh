#!/usr/bin/env bash
# Usage: findings/buildkit-unused-argument.sh
#
# Assumption: a build argument that no step uses does not change the image.
# Behaviour: BuildKit writes the value into the history of the image, so that each value of
# a declared argument has an image of its own, with the same layers. So does an argument
# like the commit of the sources, which differs in every build. The classic builder writes
# no value if no RUN follows.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

mkdir "$dir/context"
printf 'FROM busybox\nARG COMMIT\nCOPY file /\n' >"$dir/context/Dockerfile"
echo same >"$dir/context/file"
compare() {
    local commit images=()
    for commit in a b; do
        on_engine env DOCKER_BUILDKIT="$1" docker build -q -t app --build-arg COMMIT=$commit "$dir/context" >/dev/null 2>&1
        images+=("$(docker image inspect --format '{{.Id}} {{.RootFS.Layers}}' app)")
    done
    [[ ${images[0]% [*} == "${images[1]% [*}" ]] && printf 'the same image' || printf 'another image'
    [[ ${images[0]#*[} == "${images[1]#*[}" ]] && echo ', the same layers' || echo ', other layers'
}
{
    echo "BuildKit: $(compare 1)"
    echo "  history: $(docker history --no-trunc --format '{{.CreatedBy}}' app | grep ARG)"
    echo "classic: $(compare 0)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
BuildKit: another image, the same layers
  history: ARG COMMIT=b
classic: the same image, the same layers
EXPECTED
