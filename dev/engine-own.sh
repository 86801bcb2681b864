#!/usr/bin/env bash
# Usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY
#
# A separate engine for a test that stops or kills it: the system's dockerd (with
# ENGINE=26 that of Docker 26), with all data in DIRECTORY and a separate network
# namespace; only its socket is reachable from outside. start waits until it responds and
# prints its DOCKER_HOST; stop ends it like systemd; kill ends it like a crash; remove
# deletes everything. Requires root.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

command=${1:-}
dir=${2:-}
[[ $dir == /*/* ]] || die "not an absolute path: $dir" "usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY"
exec_root=$dir/exec

start() {
    ((EUID == 0)) || die "a separate engine requires root"
    # The network namespace is empty: no access to other networks.
    unshare --net "${BASH_SOURCE[0]}" launch "$dir" >&2
    printf 'unix://%s\n' "$dir/docker.sock"
}

launch() {
    local next=$dev_dir/next/root/usr
    [[ ${ENGINE:-system} != 26 ]] || PATH=$next/bin:$next/sbin:$PATH
    ip link set lo up
    mkdir -p "$dir"
    # A separate configuration: /etc/docker/daemon.json belongs to the system's engine.
    echo '{}' >"$dir/daemon.json"
    forget_dead_containerd "$exec_root"
    start_dockerd "$dir" "unix://$dir/docker.sock" \
        --config-file="$dir/daemon.json" \
        --data-root="$dir/data" \
        --exec-root="$exec_root" \
        --containerd-namespace=drillmaster-own \
        --containerd-plugins-namespace=drillmaster-own-plugins
}

kill_engine() {
    local pid
    pid=$(our_pid "$dir") || return 0
    kill -KILL "$pid"
    wait_for 10 gone "$pid" || die "dockerd ($pid) cannot be killed" "reboot the machine"
}

remove() {
    local pid place
    # A process stopped by SIGSTOP does not handle SIGTERM.
    pid=$(our_pid "$dir") && kill -CONT "$pid"
    stop_dockerd "$dir" "$exec_root"
    # Leftovers of a killed engine.
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
kill) kill_engine ;;
remove) remove ;;
*) die "unknown command: $command" "usage: dev/engine-own.sh start|stop|kill|remove DIRECTORY" ;;
esac
