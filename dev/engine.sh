#!/usr/bin/env bash
# Usage: dev/engine.sh [start|stop|restart|status]
#
# Ensures that a Docker engine responds. An existing one (at DOCKER_HOST, in the client's
# current context or at the default socket) is used unchanged. Otherwise, as root on
# Debian, installs and starts Debian's docker.io. Restarts a hung engine that this script
# has started.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

dir=$dev_dir/engine
exec_root=/var/run/docker

where() {
    local host=${DOCKER_HOST:-}
    if [[ -z $host ]] && command -v docker >/dev/null; then
        host=$(timeout 10 docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || host=''
    fi
    printf '%s\n' "${host:-$default_host}"
}

start() {
    local host
    need curl
    host=$(where)
    case $(state "$host") in
    ok) say "engine: answers at $host" ;;
    denied) die "permission denied: engine at $host" "join its group (often: docker), or run this as root" ;;
    # Check twice: under full load an engine may be slow once.
    hung) is_ok "$host" || replace_hung "$host" ;;
    absent) start_here "$host" ;;
    esac
}

replace_hung() {
    if [[ $1 != "$default_host" ]] || ! our_pid "$dir" >/dev/null; then
        die "the engine at $1 hangs, and was not started by this script" "restart it (often: systemctl restart docker)"
    fi
    say "engine: hangs, restarting it"
    stop_dockerd "$dir" "$exec_root"
    launch
}

start_here() {
    local host=$1
    [[ $host == "$default_host" ]] ||
        die "no engine answers at $host" "start it, or unset DOCKER_HOST (or run: docker context use default)"
    [[ -x $(command -v dockerd) ]] || {
        can_install || die "no engine answers at $host" \
            "start Docker and run this again (as root on Debian, this script installs and starts it)"
        install docker.io iptables iproute2 ca-certificates procps
    }
    if has_systemd; then
        systemctl start docker || die "systemd could not start docker" "see: journalctl -u docker"
        wait_for 60 is_ok "$host" || die "the engine did not respond within 60 seconds of its start" "see: journalctl -u docker"
        say "engine: started by systemd"
        return
    fi
    ((EUID == 0)) || die "no engine answers at $host" "run this as root, or start Docker yourself"
    # The process is alive, but its socket is missing.
    stop_dockerd "$dir" "$exec_root"
    launch
}

launch() {
    forget_dead_containerd "$exec_root"
    start_dockerd "$dir" "$default_host" --mtu="$(uplink_mtu)"
    say "engine: started, its log is $dir/dockerd.log"
}

stop() {
    our_pid "$dir" >/dev/null || {
        say "engine: none was started here, nothing to stop"
        return
    }
    stop_dockerd "$dir" "$exec_root"
    say "engine: stopped"
}

status() {
    local host state pid
    host=$(where)
    state=$(state "$host")
    pid=$(our_pid "$dir") || pid=''
    say "engine: $state at $host${pid:+, started by this script as process $pid, its log is $dir/dockerd.log}"
    [[ $state == ok ]]
}

command=${1:-start}
[[ $command == status ]] || {
    make_dev_dir
    lock engine
}
case $command in
start) start ;;
stop) stop ;;
restart)
    our_pid "$dir" >/dev/null || ! is_ok "$(where)" || die "the engine was not started by this script" "restart it as it was started"
    stop
    start
    ;;
status) status ;;
*) die "unknown command: $command" "usage: dev/engine.sh [start|stop|restart|status]" ;;
esac
