#!/usr/bin/env bash
# Usage: dev/measure.sh idle|drift
#
# Measures the cost and the latency of a watch with a release build.
# idle: CPU and memory usage with 100 idle services for a minute.
# drift: time from `docker kill` or `docker rm` of a container until the watch reports it
# ready, 20 times each, compared with plain `docker start` and `docker run`.
#
# DRILLMASTER=path measures another binary.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=dev/watched.sh
source "$(dirname "${BASH_SOURCE[0]}")/watched.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# spec NUMBER [LINE]
spec() {
    write "$(service "$1")" <<END
name: $(service "$1")
image: drillmaster/busybox:1
command: [sleep, infinity]
stop_signal: KILL
${2:-}
END
}

idle() {
    local number before
    for ((number = 0; number < 100; number++)); do
        if ((number % 10 == 9)); then
            spec "$number" "dependencies: [$(service $((number - 9)))]"
        else
            spec "$number"
        fi
    done
    watch
    # Exclude remaining work of the start.
    sleep 10
    before=$(cpu)
    sleep 60
    printf '100 idle services for 60 s: %s s of processor time (%s %% of a core), %s kB resident, %s descriptors\n' \
        "$(awk -v a="$before" -v b="$(cpu)" 'BEGIN { printf "%.2f", b - a }')" \
        "$(awk -v a="$before" -v b="$(cpu)" 'BEGIN { printf "%.2f", (b - a) / 0.6 }')" "$(rss)" "$(descriptors)"
}

# until_ready NAME LINES: prints the time of the ready event after the given number of
# lines, in milliseconds.
until_ready() {
    wait_for 60 ready_time "$1" "$2" >/dev/null || die "$1 is not ready again" "see $home/events"
    date --date "$(ready_time "$1" "$2")" +%s%3N
}

ready_time() {
    tail -n "+$(($2 + 1))" "$home/events" | grep '"event":"ready"' | grep "\"service\":\"$1\"" |
        sed -n '1s/.*"time":"\([^"]*\)".*/\1/p' | grep .
}

# measured COMMAND...: prints the duration in milliseconds.
measured() {
    local start
    start=$(now)
    "$@" >/dev/null
    printf '%s\n' $(($(now) - start))
}

# figures WHAT FILE
figures() {
    sort -n "$2" | awk -v what="$1" '{ v[NR] = $1 }
        END { printf "%-34s median %5d ms, slowest %5d ms, of %d\n", what, v[int((NR + 1) / 2)], v[NR], NR }'
}

end_own() {
    docker kill "$group-own" >/dev/null
    wait_for 20 own_is_gone || die "the engine does not remove $group-own"
}

own_is_gone() { ! docker container inspect "$group-own" >/dev/null 2>&1; }

drift() {
    local number name lines start what own
    for ((number = 0; number < 20; number++)); do spec "$number"; done
    watch
    # A container killed within ten seconds of its start is restarted with backoff.
    sleep 11
    for what in kill 'rm -f'; do
        for ((number = 0; number < 20; number++)); do
            name=$(service "$number")
            lines=$(wc -l <"$home/events")
            # shellcheck disable=SC2086 # two words
            docker $what "$group-$name" >/dev/null
            start=$(now)
            printf '%s\n' $(($(until_ready "$name" "$lines") - start)) >>"$home/figures.${what%% *}"
        done
    done
    # Removed automatically, even after an interrupt.
    own=(--rm --network "$group" --name "$group-own" --stop-signal KILL drillmaster/busybox:1 sleep 30)
    for ((number = 0; number < 20; number++)); do
        measured docker run -d "${own[@]}" >>"$home/figures.run"
        end_own
        docker create "${own[@]}" >/dev/null
        measured docker start "$group-own" >>"$home/figures.start"
        end_own
    done
    figures 'killed, until ready again' "$home/figures.kill"
    figures 'docker start by itself' "$home/figures.start"
    figures 'removed, until ready again' "$home/figures.rm"
    figures 'docker run by itself' "$home/figures.run"
}

case ${1:-} in
idle | drift)
    prepare measure
    "$1"
    ;;
*) die "unknown argument: ${1:-}" "usage: dev/measure.sh idle|drift" ;;
esac
