#!/usr/bin/env bash
# Usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY
#
# An engine for one test to stop and to kill: the system's own dockerd (with ENGINE=next
# the next one's) with everything it has in DIRECTORY, and in a network of its own, so
# that it meets no other engine; only its socket can be reached from outside.
# start waits until it answers and prints its DOCKER_HOST; stop ends it as systemd does;
# kill as a crash does; remove leaves nothing. Only for root.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

command=${1:-}
dir=${2:-}
[[ $dir == /*/* ]] || die "not an absolute path: $dir" "usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY"
exec_root=$dir/exec

start() {
    ((EUID == 0)) || die "an engine of one's own can be started only as root"
    # Nothing else is in its network, not even a way out.
    unshare --net "${BASH_SOURCE[0]}" launch "$dir" >&2
    printf 'unix://%s\n' "$dir/docker.sock"
}

launch() {
    local next=$dev_dir/next/root/usr
    [[ ${ENGINE:-system} != next ]] || PATH=$next/bin:$next/sbin:$PATH
    ip link set lo up
    mkdir -p "$dir"
    # A configuration of its own: /etc/docker/daemon.json is the other engine's.
    echo '{}' >"$dir/daemon.json"
    forget_dead_containerd "$exec_root"
    start_dockerd "$dir" "unix://$dir/docker.sock" \
        --config-file="$dir/daemon.json" \
        --data-root="$dir/data" \
        --exec-root="$exec_root" \
        --containerd-namespace=drillmaster-own \
        --containerd-plugins-namespace=drillmaster-own-plugins
}

kill_it() {
    local pid
    pid=$(our_pid "$dir") || return 0
    kill -KILL "$pid"
    wait_for 10 gone "$pid" || die "dockerd ($pid) cannot be killed" "only a reboot helps"
}

remove() {
    local pid place
    # One that was held with SIGSTOP does not hear that it is to end.
    pid=$(our_pid "$dir") && kill -CONT "$pid"
    stop_dockerd "$dir" "$exec_root"
    # What one that was killed has left.
    end_leftovers "$exec_root"
    while read -r place; do
        umount -l "$place"
    done < <(awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r)
    rm -rf "$dir"
}

case $command in
start) start ;;
launch) launch ;;
stop) stop_dockerd "$dir" "$exec_root" ;;
kill) kill_it ;;
remove) remove ;;
*) die "unknown command: $command" "usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY" ;;
esac
