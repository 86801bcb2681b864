#!/usr/bin/env bash
# Usage: findings/podman-events-repeat.sh
#
# Assumption: a stream of events sends each event once.
# Behaviour: when the file of the events has reached its maximum size (1 MB by default),
# Podman drops the older half, and an open stream with `since` sends the others again, with
# their old times. One that is written meanwhile can be missing.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

# Small, to get there soon.
eval "$(declare -f configure_podman | sed '1s/.*/configure_usual()/')"
configure_podman() {
    configure_usual
    on_engine sed -i '/^\[engine\]/a events_logfile_max_size=6000' /etc/containers/containers.conf
}
start_engine podman 5.8.6

curl -sN --unix-socket "$dir/engine.sock" "http://engine/events?since=$(date +%s)" >"$dir/events.json" &
sleep 1
for number in $(seq 90); do
    docker volume create "data$number" >/dev/null
done
has_last() { grep -q '"data90"' "$dir/events.json"; }
wait_for 20 has_last
# The last ones may still be on their way.
sleep 2
events() { jq -r 'select(.Type == "volume") | [.timeNano, .Action, .Actor.Attributes.name // .Actor.ID] | @tsv' "$dir/events.json"; }
{
    echo "sent twice: $(if [[ -n $(events | sort | uniq -d) ]]; then echo some; else echo none; fi)"
    echo "not sent: $((90 - $(events | sort -u | wc -l)))" >&2
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
sent twice: some
EXPECTED
