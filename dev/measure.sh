#!/usr/bin/env bash
# Usage: dev/measure.sh idle|mend
#
# What a watch costs and how quick it is, with a release build.
# idle: 100 services at rest for a minute: its share of a core, its memory.
# mend: a killed and a removed container, twenty of each: from the moment when the hand
#       was done until the watcher calls it ready, beside what `docker start` and
#       `docker run` of the same take by themselves.
#
# DRILLMASTER=path measures another program.
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
    # What the start has left to do is no rest.
    sleep 10
    before=$(cpu)
    sleep 60
    printf '100 services at rest for 60 s: %s s of processor time (%s %% of a core), %s kB resident, %s descriptors\n' \
        "$(awk -v a="$before" -v b="$(cpu)" 'BEGIN { printf "%.2f", b - a }')" \
        "$(awk -v a="$before" -v b="$(cpu)" 'BEGIN { printf "%.2f", (b - a) / 0.6 }')" "$(rss)" "$(descriptors)"
}

# until_ready NAME LINES: milliseconds of the day when it was told after the first so many lines.
until_ready() {
    wait_for 60 told_ready "$1" "$2" >/dev/null || die "$1 is not ready again" "see $home/told"
    date --date "$(told_ready "$1" "$2")" +%s%3N
}

told_ready() {
    tail -n "+$(($2 + 1))" "$home/told" | grep '"event":"ready"' | grep "\"service\":\"$1\"" |
        sed -n '1s/.*"time":"\([^"]*\)".*/\1/p' | grep .
}

# measured COMMAND...: milliseconds.
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

mend() {
    local number name lines start what own
    for ((number = 0; number < 20; number++)); do spec "$number"; done
    watch
    # Who is killed within ten seconds of its start is brought back with a pause.
    sleep 11
    for what in kill 'rm -f'; do
        for ((number = 0; number < 20; number++)); do
            name=$(service "$number")
            lines=$(wc -l <"$home/told")
            # shellcheck disable=SC2086 # two words
            docker $what "$group-$name" >/dev/null
            start=$(now)
            printf '%s\n' $(($(until_ready "$name" "$lines") - start)) >>"$home/figures.${what%% *}"
        done
    done
    # Those go by themselves, also where this is interrupted.
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
idle | mend)
    prepare measure
    "$1"
    ;;
*) die "unknown argument: ${1:-}" "usage: dev/measure.sh idle|mend" ;;
esac
