#!/usr/bin/env bash
# Usage: findings/containerd-build-drops-image.sh
#
# Assumption: when a build gives the tag of a container's image to another image, the old
# one stays, without a name, as long as the container exists.
# Behaviour: with containerd's image store, BuildKit takes the name away and leaves nothing:
# the image of the running container cannot be inspected any more, the filter `ancestor`
# does not find the container, and it cannot be committed. It does start again. `docker tag`
# and `docker import` leave the old image without a name, as assumed.
# (Debian: docker.io 28.5.2, docker-buildx 0.29.1)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

mkdir "$dir/context"
printf 'FROM busybox\nCOPY version /\n' >"$dir/context/Dockerfile"
build() {
    echo "$1" >"$dir/context/version"
    docker build -q -t app "$dir/context" >/dev/null
}
yes_no() { "$@" >/dev/null 2>&1 && echo yes || echo no; }
report() {
    local id
    id=$(docker container inspect --format '{{.Image}}' "$1")
    echo "$2:"
    echo "  its image can be inspected: $(yes_no docker image inspect "$id")"
    echo "  containers of its image: $(docker ps --quiet --filter "ancestor=$id" | wc -l)"
    echo "  it can be committed: $(yes_no docker commit "$1" copy)"
    echo "  it can be restarted: $(yes_no docker restart --time 0 "$1")"
}
{
    build 1
    docker run --detach --name one app sleep 1000 >/dev/null
    build 2
    report one 'after a build'
    docker run --detach --name two app sleep 1000 >/dev/null
    docker tag busybox app
    report two 'after docker tag'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
after a build:
  its image can be inspected: no
  containers of its image: 0
  it can be committed: no
  it can be restarted: yes
after docker tag:
  its image can be inspected: yes
  containers of its image: 1
  it can be committed: yes
  it can be restarted: yes
EXPECTED
