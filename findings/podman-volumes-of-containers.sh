#!/usr/bin/env bash
# Usage: findings/podman-volumes-of-containers.sh
#
# Assumption: a volume that is made for a container is the same on both engines: it has the
# labels of VolumeOptions, and `docker rm --volumes` removes only what the container brought.
# Behaviour: Podman ignores the labels. It takes a volume without a name for the property of
# every container that mounts it, also of one that mounts it by its name: removing that one
# with its volumes destroys the data that the first one uses.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

api POST '/containers/create?name=labelled' '{"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts":
    [{"Type": "volume", "Source": "data", "Target": "/data", "VolumeOptions": {"Labels": {"owner": "shop"}}}]}}' >/dev/null
docker create --name first --volume /data busybox true >/dev/null
volume=$(state first '{{(index .Mounts 0).Name}}')
docker create --name second --volume "$volume:/data" busybox true >/dev/null
docker rm first >/dev/null
{
    echo "labels of the volume: $(docker volume inspect --format '{{json .Labels}}' data)"
    docker volume inspect "$volume" >/dev/null && echo 'its container is removed: the volume without a name is there'
    docker rm --volumes second >/dev/null
    docker volume inspect "$volume" >/dev/null 2>&1 || echo 'the other one is removed with its volumes: it is gone'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
labels of the volume: {}
its container is removed: the volume without a name is there
the other one is removed with its volumes: it is gone
EXPECTED
