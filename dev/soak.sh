#!/usr/bin/env bash
# Usage: dev/soak.sh [MINUTES]
#
# Watches 20 services for so many minutes (60) with a release build while something
# happens to one of them every few seconds: killed, stopped, paused, removed, renamed,
# disconnected, its limits changed, crashed from inside, its spec edited. Each minute
# one line: memory (all, and what is not its program), descriptors and processor time of
# the watcher, how much it told, and how long it took to be back in agreement. Fails where
# it is not, within the longest pause of a crash loop, or where memory or descriptors grow.
#
# SEED=n does the same things again, as far as time allows; DRILLMASTER=path watches
# with another program.
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

# Fives: the first is pinged, the second has limits, the third asks to be restarted with
# the second, the fourth looks after its health, the fifth has a volume.
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

# The last two are what happens most in life.
hands=(kill stop pause remove rename disconnect update crash edit crash edit)

# hand KIND NUMBER: fails where it cannot be done just now, because the container is being replaced, say.
hand() {
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

agrees() { drillmaster diff >"$home/diff" 2>&1; }

prepare soak
for ((number = 0; number < services; number++)); do spec "$number" 0; done
watch
say "soak: group $group, process $watcher, seed $seed, $minutes minutes, in $home"
printf '%6s %6s %9s %9s %4s %7s %6s %8s\n' minute hands rss/kB own/kB fds cpu/s lines agree/s

memory=()
files=()
done_hands=0
for ((minute = 1; minute <= minutes; minute++)); do
    end=$((SECONDS + 50))
    while ((SECONDS < end)); do
        if hand "${hands[RANDOM % ${#hands[@]}]}" $((RANDOM % services)); then done_hands=$((done_hands + 1)); fi
        sleep $((1 + RANDOM % 4))
        ! gone "$watcher" || die "the watcher has ended" "see $home/said"
    done
    start=$(now)
    wait_for 360 agrees || die "minute $minute: no agreement: $(head -n 20 "$home/diff")" "see $home/told"
    took=$(($(now) - start))
    memory+=("$(own_memory)")
    files+=("$(descriptors)")
    printf '%6d %6d %9d %9d %4d %7s %6d %8s\n' "$minute" "$done_hands" "$(rss)" "${memory[-1]}" "${files[-1]}" \
        "$(cpu)" "$(wc -l <"$home/told")" "$((took / 1000)).$(printf '%03d' $((took % 1000)))"
    while ((SECONDS < end + 10)); do sleep 0.2; done
done

# mean FROM TO VALUE...: of the values in this part of the run, in percent.
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
say "soak: memory of its own $early kB in the second quarter, $late kB in the last; descriptors $early_files and $late_files"
((minutes < 4 || late * 100 <= early * 110)) || die "memory grows" "run it longer to be sure: dev/soak.sh $((minutes * 2))"
((minutes < 4 || late_files <= early_files + 2)) || die "descriptors leak" "run it longer to be sure: dev/soak.sh $((minutes * 2))"
say "soak: $done_hands hands, always back to agreement, memory and descriptors flat"
