#!/usr/bin/env bash
# Usage: findings/podman-container-filters.sh
#
# Assumption: Podman knows the filters of Docker's list of containers, and answers an unknown
# value with 400.
# Behaviour: the states restarting and dead, which Docker's API has, are errors with status
# 500, even beside known ones. So are the filters publish and is-task. health=none
# and volume=PATH find nothing where Docker finds containers.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker run --detach --name app --publish 8080:80 --volume /data busybox sleep 1000 >/dev/null
list() {
    local filters
    filters=$(jq -rn --arg filters "$1" '$filters | @uri')
    echo "$1: $(code GET "/containers/json?all=true&filters=$filters") $(api GET "/containers/json?all=true&filters=$filters" |
        jq -r 'if type == "array" then "\(length) found" else .message end')"
}
{
    list '{"status": ["running"]}'
    list '{"status": ["running", "restarting"]}'
    list '{"status": ["dead"]}'
    list '{"health": ["none"]}'
    list '{"volume": ["/data"]}'
    list '{"publish": ["8080"]}'
    list '{"is-task": ["false"]}'
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
{"status": ["running"]}: 200 1 found
{"status": ["running", "restarting"]}: 500 unknown container state: restarting: invalid argument
{"status": ["dead"]}: 500 unknown container state: dead: invalid argument
{"health": ["none"]}: 200 0 found
{"volume": ["/data"]}: 200 0 found
{"publish": ["8080"]}: 500 publish is an invalid filter
{"is-task": ["false"]}: 500 is-task is an invalid filter
EXPECTED
