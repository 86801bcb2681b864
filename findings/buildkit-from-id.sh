#!/usr/bin/env bash
# Usage: findings/buildkit-from-id.sh
#
# Assumption: FROM takes the id of an image on the engine, like every other command.
# Behaviour: BuildKit takes an id for a name, and asks a registry for
# docker.io/library/sha256:…, whatever images the engine has. The classic builder uses the
# image. A local image can be a base for BuildKit only by a name.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

mkdir "$dir/context"
id=$(docker image inspect --format '{{.Id}}' busybox)
printf 'FROM %s\nRUN true\n' "$id" >"$dir/context/Dockerfile"
{
    for builder in 0 1; do
        echo "DOCKER_BUILDKIT=$builder:"
        if on_engine env DOCKER_BUILDKIT=$builder docker build -q "$dir/context" >"$dir/log" 2>&1; then
            echo '  built'
        else
            grep -o 'failed to resolve source metadata for [^:]*' "$dir/log" | head -n 1 | sed 's/^/  /'
        fi
    done
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
DOCKER_BUILDKIT=0:
  built
DOCKER_BUILDKIT=1:
  failed to resolve source metadata for docker.io/library/sha256
EXPECTED
