#!/usr/bin/env bash
# Usage: findings/image-store-changes-id.sh
#
# Assumption: the same archive of an image has the same id on every engine.
# Behaviour: the classic store takes the digest of the configuration, containerd's store the
# digest of the manifest. An id that was noted on one engine names nothing on the other.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

docker save --output "$dir/archive.tar" busybox
docker rmi busybox >/dev/null
docker load --quiet --input "$dir/archive.tar" >/dev/null
containerd=$(docker image inspect --format '{{.Id}}' busybox)
# The same archive on the classic store, which needs an empty folder.
kind=docker-overlay2
configure_docker
restart_engine
docker load --quiet --input "$dir/archive.tar" >/dev/null
classic=$(docker image inspect --format '{{.Id}}' busybox)
digest_of() { tar --extract --to-stdout --file "$dir/archive.tar" "blobs/sha256/${1#sha256:}" | jq -r 'if .layers then "a manifest" else "a configuration" end'; }
{
    echo "containerd's store: the digest of $(digest_of "$containerd")"
    echo "classic store: the digest of $(digest_of "$classic")"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
containerd's store: the digest of a manifest
classic store: the digest of a configuration
EXPECTED
