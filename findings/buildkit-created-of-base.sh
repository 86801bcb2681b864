#!/usr/bin/env bash
# Usage: findings/buildkit-created-of-base.sh
#
# Assumption: an image was created when it was built, so that a prune of old images spares
# one that was built just now.
# Behaviour: BuildKit takes the time of the last layer. If no step of the build makes a
# layer, that is the time of the base image, and `docker image prune --filter until=…`
# removes the new image. The classic builder takes the time of the build.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

mkdir "$dir/context"
printf 'FROM busybox\nCMD ["sleep", "1000"]\n' >"$dir/context/Dockerfile"
sleep 4
docker build -q -t buildkit "$dir/context" >/dev/null
docker image ls --quiet buildkit | wc -l >"$dir/before"
on_engine env DOCKER_BUILDKIT=0 docker build -q -t classic "$dir/context" >/dev/null 2>&1
created() { docker image inspect --format '{{.Created}}' "$1"; }
{
    [[ $(created buildkit) == "$(created busybox)" ]] && echo 'BuildKit: created with its base'
    [[ $(created classic) > "$(created busybox)" ]] && echo 'classic: created after its base'
    docker image prune --all --force --filter until=3s | sed -n 's/untagged: /pruned as older than 3 s: /p' | sort
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
BuildKit: created with its base
classic: created after its base
pruned as older than 3 s: buildkit:latest
pruned as older than 3 s: busybox:latest
EXPECTED
