#!/usr/bin/env bash
# Usage: dev/soak.sh [MINUTES]
#
# Watches 20 services for the given number of minutes (60) with a release build. Every few
# seconds one of them is changed externally: killed, stopped, paused, removed, renamed,
# disconnected, updated, crashed from inside, or its spec is edited. Prints one line per
# minute: memory (total, and without the binary), descriptors and CPU time of the watcher,
# number of events, and time until convergence. Fails if the state does not converge
# within the maximum backoff, or if memory or descriptors grow.
#
# SEED=n repeats the same changes, as far as timing allows; DRILLMASTER=path uses another
# binary.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=dev/watched.sh
source "$(dirname "${BASH_SOURCE[0]}")/watched.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-60}
seed=${SEED:-$RANDOM}
RANDOM=$seed
services=20

# Groups of five: a service with a ping, one with limits, one that restarts with the
# second, one with a health check, one with a volume.
spec() {
    local number=$1 value=$2 name more=''
    name=$(service "$number")
    case $((number % 5)) in
    0) more='ping: {tcp: 80}' ;;
    1) more="dependencies: [$(service $((number - 1)))]"$'\nresources: {memory: 32m, cpus: 0.5}' ;;
    2) more="dependencies: [{name: $(service $((number - 1))), restart: true}]" ;;
    3) more="dependencies: [$(service $((number - 1)))]"$'\nping: {exec: [test, -e, /tmp/here]}\nhealth: {interval: 2s, retries: 3}' ;;
    4) more='volumes: ["/data"]' ;;
    esac
    write "$name" <<END
name: $name
image: drillmaster/busybox:1
command: [sh, -c, 'touch /tmp/here; httpd -p 80; while [ ! -e /tmp/crash ]; do sleep 0.5; done; rm /tmp/crash; exit 3']
stop_signal: KILL
env: {VALUE: "$value"}
$more
END
}

# Crashes and edits are the most common, so they are listed twice.
changes=(kill stop pause remove rename disconnect update crash edit crash edit)

# external_change KIND NUMBER: fails if it is not possible at the moment, e.g. during a
# replacement.
external_change() {
    local container
    container=$group-$(service "$2")
    case $1 in
    kill) docker kill "$container" ;;
    stop) docker stop "$container" ;;
    pause) docker pause "$container" ;;
    remove) docker rm -f "$container" ;;
    rename) docker rename "$container" "$container-aside-$RANDOM" ;;
    disconnect) docker network disconnect -f "$group" "$container" ;;
    update) docker update --memory 64m --memory-swap 128m "$container" ;;
    crash) docker exec "$container" touch /tmp/crash ;;
    edit) spec "$2" "$RANDOM" ;;
    esac >/dev/null 2>&1
}

converged() { drillmaster diff >"$home/diff" 2>&1; }

prepare soak
for ((number = 0; number < services; number++)); do spec "$number" 0; done
watch
say "soak: group $group, process $watcher, seed $seed, $minutes minutes, in $home"
printf '%6s %7s %9s %9s %4s %7s %6s %10s\n' minute changes rss/kB own/kB fds cpu/s events converge/s

memory=()
files=()
done_changes=0
for ((minute = 1; minute <= minutes; minute++)); do
    end=$((SECONDS + 50))
    while ((SECONDS < end)); do
        if external_change "${changes[RANDOM % ${#changes[@]}]}" $((RANDOM % services)); then done_changes=$((done_changes + 1)); fi
        sleep $((1 + RANDOM % 4))
        ! gone "$watcher" || die "the watcher has ended" "see $home/stderr"
    done
    start=$(now)
    wait_for 360 converged || die "minute $minute: not converged: $(head -n 20 "$home/diff")" "see $home/events"
    took=$(($(now) - start))
    memory+=("$(memory_without_binary)")
    files+=("$(descriptors)")
    printf '%6d %7d %9d %9d %4d %7s %6d %10s\n' "$minute" "$done_changes" "$(rss)" "${memory[-1]}" "${files[-1]}" \
        "$(cpu)" "$(wc -l <"$home/events")" "$((took / 1000)).$(printf '%03d' $((took % 1000)))"
    while ((SECONDS < end + 10)); do sleep 0.2; done
done

# mean FROM TO VALUE...: the mean of the values between two percentages of the run.
mean() {
    local from=$1 to=$2
    shift 2
    printf '%s\n' "$@" | awk -v from="$from" -v to="$to" \
        '{ v[NR] = $1 } END { for (i = 1; i <= NR; i++) if (i * 100 > NR * from && i * 100 <= NR * to) { s += v[i]; n++ }
           printf "%d", n ? s / n : 0 }'
}
early=$(mean 25 50 "${memory[@]}")
late=$(mean 75 100 "${memory[@]}")
early_files=$(mean 25 50 "${files[@]}")
late_files=$(mean 75 100 "${files[@]}")
say "soak: memory without the binary $early kB in the second quarter, $late kB in the last; descriptors $early_files and $late_files"
((minutes < 4 || late * 100 <= early * 110)) || die "memory grows" "run it longer to be sure: dev/soak.sh $((minutes * 2))"
((minutes < 4 || late_files <= early_files + 2)) || die "descriptors leak" "run it longer to be sure: dev/soak.sh $((minutes * 2))"
say "soak: $done_changes changes, always converged, memory and descriptors stable"
