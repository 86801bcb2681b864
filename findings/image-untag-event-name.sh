#!/usr/bin/env bash
# Usage: findings/image-untag-event-name.sh
#
# Assumption: the `name` of an event `untag` is the name that the image has lost.
# Behaviour: with the classic store it is the id of the image, so that the event does not
# tell which of its names is gone. With containerd's store it is the name.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

since=$(date +%s.%N)
docker tag busybox one
docker tag busybox two
docker rmi one >/dev/null
id=$(docker image inspect --format '{{.Id}}' busybox)
docker events --since "$since" --until "$(date +%s.%N)" --filter type=image --format '{{.Action}} {{.Actor.Attributes.name}}' |
    sed "s/$id/ID/g" | tee "$dir/actual.txt"
expect <<'EXPECTED'
tag one:latest
tag two:latest
untag ID
EXPECTED
