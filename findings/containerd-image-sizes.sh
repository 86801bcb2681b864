#!/usr/bin/env bash
# Usage: findings/containerd-image-sizes.sh
#
# Assumption: the size of an image is the same in the list of images and in its inspection.
# Behaviour: containerd's image store lists what an image takes on disk, compressed and
# unpacked together, and inspects only the compressed part. The classic store gives the
# unpacked size in both.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-containerd 28.5.2

listed=$(api GET /images/json | jq '.[0].Size')
inspected=$(api GET /images/busybox/json | jq .Size)
unpacked=$(du --apparent-size --block-size=1 --summarize "$dir/image" | cut -f1)
echo "files: $unpacked bytes, list: $listed, inspection: $inspected" >&2
{
    ((listed > 2 * inspected)) && echo 'the list has more than twice the size of the inspection'
    ((inspected < unpacked)) && echo 'the inspection has less than the files of the image'
    ((listed > unpacked)) && echo 'the list has more'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
the list has more than twice the size of the inspection
the inspection has less than the files of the image
the list has more
EXPECTED
