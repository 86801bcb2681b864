#!/usr/bin/env bash
# Usage: findings/docker-networks-by-api-version.sh
#
# Assumption: an engine that can create a container on two networks does so for any client.
# Behaviour: Docker 28 rejects the request if the version in its path is below 1.44. A
# client that pins an old version for compatibility loses what newer ones can do. Podman
# 5.8.6 accepts it at any version.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker network create first >/dev/null
docker network create second >/dev/null
body='{"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "first"},
    "NetworkingConfig": {"EndpointsConfig": {"first": {}, "second": {}}}}'
{
    for version in 1.41 1.43 1.44 1.51; do
        echo "$version: $(code POST "/v$version/containers/create" "$body")"
    done
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
1.41: 400
1.43: 400
1.44: 201
1.51: 201
EXPECTED
