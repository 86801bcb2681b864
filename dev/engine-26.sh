#!/usr/bin/env bash
# Usage: dev/engine-26.sh [start|stop|restart|status]
#
# Docker 26 beside the system's engine: docker.io and containerd of Debian 13, unpacked but not installed, with its own socket, data directory, bridge
# and address pool. runc is that of the current release, because the newer one needs a
# newer C library.
# start prints only the engine's DOCKER_HOST on stdout:
#
#     DOCKER_HOST=$(dev/engine-26.sh) docker version
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=${DRILLMASTER_NEXT_RELEASE:-trixie}
dir=$dev_dir/next
host=unix://$dir/docker.sock
exec_root=/run/drillmaster-next
bridge=dm-next

start() {
    need curl >&2
    case $(state "$host") in
    ok) say "26: answers" ;;
    hung) is_ok "$host" || {
        say "26: hangs, starting it again"
        launch
    } ;;
    *) launch ;;
    esac
    printf '%s\n' "$host"
}

launch() {
    can_install || die "the next engine can be started only as root on Debian" "use the system's engine instead"
    stop_dockerd "$dir" "$exec_root"
    # After a crash, containers keep running; this exec root belongs to this engine only.
    end_leftovers "$exec_root"
    [[ -x $dir/root/usr/sbin/dockerd ]] || unpack
    need runc
    need iptables
    need ip iproute2
    make_bridge
    # A separate configuration: /etc/docker/daemon.json belongs to the system's engine.
    # When an engine with an address pool finds its previous default network, it also
    # removes docker0, regardless of its owner, unless live restore is enabled. It is
    # enabled only for the start, so that containers stop with this engine.
    echo '{"live-restore": true}' >"$dir/daemon.json"
    PATH=$dir/root/usr/bin:$dir/root/usr/sbin:$PATH \
        start_dockerd "$dir" "$host" \
        --config-file="$dir/daemon.json" \
        --data-root="$dir/data" \
        --exec-root="$exec_root" \
        --containerd-namespace=drillmaster-next \
        --containerd-plugins-namespace=drillmaster-next-plugins \
        --bridge="$bridge" \
        --default-address-pool=base=10.214.0.0/16,size=24 \
        --mtu="$(uplink_mtu)"
    echo '{"live-restore": false}' >"$dir/daemon.json"
    kill -HUP "$(our_pid "$dir")"
    wait_for 20 live_restore_is_off || die "the next engine does not reload its configuration" "its log is $dir/dockerd.log"
    say "26: started, its log is $dir/dockerd.log"
}

live_restore_is_off() {
    curl -fsS --max-time 10 --unix-socket "$dir/docker.sock" http://engine/info 2>/dev/null |
        grep '"LiveRestoreEnabled":false' >/dev/null
}

make_bridge() {
    ip link show "$bridge" >/dev/null 2>&1 || ip link add name "$bridge" type bridge
    ip address replace 10.213.0.1/24 dev "$bridge"
    ip link set "$bridge" up
}

# Uses separate lists and caches, so that the next release does not affect the machine's
# apt.
unpack() {
    local new=$dir/root.new keyring=/usr/share/keyrings/debian-archive-keyring.gpg deb
    say "26: fetching docker.io and containerd of Debian $release"
    rm -rf "$new" "$dir/apt"
    mkdir -p "$new" "$dir"/apt/{lists,cache/archives}/partial "$dir/apt/debs"
    {
        echo "Types: deb"
        echo "URIs: $(debian_mirror)"
        echo "Suites: $release"
        echo "Components: main"
        [[ ! -e $keyring ]] || echo "Signed-By: $keyring"
    } >"$dir/apt/next.sources"
    next_apt update >&2
    (cd "$dir/apt/debs" && next_apt download docker.io containerd >&2)
    for deb in "$dir"/apt/debs/*.deb; do dpkg-deb -x "$deb" "$new"; done
    rm -rf "$dir/root" "$dir/apt"
    mv "$new" "$dir/root"
}

next_apt() {
    apt -o Dir::Etc::SourceList="$dir/apt/next.sources" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$dir/apt/lists" -o Dir::State::Status=/dev/null -o Dir::Cache="$dir/apt/cache" \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User=root \
        "$@" || die "apt could not fetch Debian $release" "is the mirror reachable? try: apt-get update"
}

stop() {
    our_pid "$dir" >/dev/null || {
        say "26: not running, nothing to stop"
        return
    }
    stop_dockerd "$dir" "$exec_root"
    ip link delete "$bridge" 2>/dev/null || true
    say "26: stopped"
}

status() {
    local state pid
    state=$(state "$host")
    pid=$(our_pid "$dir") || pid=''
    say "26: $state at $host${pid:+, process $pid, its log is $dir/dockerd.log}"
    [[ $state == ok ]]
}

command=${1:-start}
[[ $command == status ]] || {
    make_dev_dir
    lock engine-26
}
case $command in
start) start ;;
stop) stop ;;
restart)
    stop
    start
    ;;
status) status ;;
*) die "unknown command: $command" "usage: dev/engine-26.sh [start|stop|restart|status]" ;;
esac
