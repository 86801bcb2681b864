#!/usr/bin/env bash
# Usage: findings/podman-configuration-again.sh
#
# Assumption: the HostConfig of an inspected container can be sent to create another one.
# Behaviour: Podman splits NanoCpus into CpuQuota and CpuPeriod, returns all three, and
# rejects a request that has all three. Other values change too: an anonymous volume becomes
# a bind of a named one, and a stop signal becomes a number.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

api POST '/containers/create?name=app' '{"Image": "busybox", "Cmd": ["true"], "StopSignal": "SIGINT", "Volumes": {"/data": {}},
    "HostConfig": {"NanoCpus": 500000000}}' >/dev/null
{
    state app 'NanoCpus={{.HostConfig.NanoCpus}} CpuQuota={{.HostConfig.CpuQuota}} CpuPeriod={{.HostConfig.CpuPeriod}}'
    state app 'StopSignal={{.Config.StopSignal}}'
    volume=$(state app '{{(index .Mounts 0).Name}}')
    state app 'Volumes={{json .Config.Volumes}} Binds={{json .HostConfig.Binds}}' | sed "s/$volume/NAME/"
    again=$(api GET /containers/app/json | jq -c '{Image: "busybox", Cmd: ["true"], HostConfig}')
    api POST '/containers/create?name=again' "$again" | jq -r .cause
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
NanoCpus=500000000 CpuQuota=50000 CpuPeriod=100000
StopSignal=2
Volumes=null Binds=["NAME:/data:rprivate,nosuid,nodev,rbind"]
NanoCpus conflicts with CpuPeriod and CpuQuota
EXPECTED
