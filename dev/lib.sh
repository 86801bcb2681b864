# Functions shared by the scripts in dev/. To be sourced, not executed.
# shellcheck shell=bash

# Daemons are in sbin, which may not be in PATH.
PATH=$PATH:/usr/sbin:/sbin

# Persistent data of the scripts (pids, logs, caches) is outside the clone, so that a
# fresh clone finds the existing engine and caches.
dev_dir=${DRILLMASTER_DEV_DIR:-/var/tmp/drillmaster-dev}
# Separate directories for root and other users.
((EUID == 0)) || dev_dir=${DRILLMASTER_DEV_DIR:-/var/tmp/drillmaster-dev-$EUID}

# shellcheck disable=SC2034 # used by the sourcing scripts
default_host=unix:///var/run/docker.sock

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    shift
    (($# == 0)) || say "       $*"
    exit 1
}

# wait_for SECONDS COMMAND...: repeats the command until it succeeds; fails after SECONDS.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# Creates dev_dir. Its name is well known in a world-writable directory, so a directory of
# another user is rejected.
make_dev_dir() {
    mkdir -p "$dev_dir"
    [[ -O $dev_dir && ! -L $dev_dir ]] ||
        die "$dev_dir belongs to another user" "set DRILLMASTER_DEV_DIR to a directory of your own"
}

# Prevents two concurrent runs from starting two engines. The lock is released on exit.
lock() {
    local name=$1
    exec {lock_fd}>"$dev_dir/$name.lock"
    flock --timeout 300 "$lock_fd" ||
        die "another run of dev/$name.sh holds $dev_dir/$name.lock for 5 minutes" "end it, then try again"
}

# --- Debian --------------------------------------------------------------------

has_systemd() { [[ -d /run/systemd/system ]]; }

can_install() { ((EUID == 0)) && command -v apt-get >/dev/null; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@"; }

# install PACKAGE...: installs packages. Without systemd, policy-rc.d prevents them from
# starting services, as documented by Debian.
install() {
    local policy=/usr/sbin/policy-rc.d ours=0
    can_install || die "missing: $*" "install it, or run this as root on Debian"
    say "installing $*"
    if ! has_systemd && [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        ours=1
    fi
    local log=$dev_dir/apt.log status=0
    { apt install -y --no-install-recommends "$@" ||
        { apt update && apt install -y --no-install-recommends "$@"; }; } >"$log" 2>&1 || status=$?
    ((ours == 0)) || rm -f "$policy"
    ((status == 0)) || {
        tail -n 20 "$log" >&2
        die "apt could not install $*" "see its output above or in $log"
    }
}

# need COMMAND [PACKAGE]: installs the command if it is missing.
need() { command -v "$1" >/dev/null || install "${2:-$1}"; }

# Returns the Debian mirror of this machine; no script hard-codes a host.
debian_mirror() {
    local mirror
    mirror=$(first_mirror)
    [[ -n $mirror ]] || {
        apt update >&2
        mirror=$(first_mirror)
    }
    [[ -n $mirror ]] || die "no Debian mirror configured for apt" "add one to /etc/apt/sources.list.d and run apt-get update"
    printf '%s\n' "$mirror"
}

first_mirror() {
    # shellcheck disable=SC2016 # apt fills in $(…), not the shell
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        awk '$1 !~ /-/ && $2 ~ /^http/ { print $2; exit }' || true
}

# --- Engine state ------------------------------------------------------------

# get HOST PATH SECONDS: the exit status of curl distinguishes absent (7) from hung (28).
get() {
    local host=$1 path=$2 seconds=$3
    case $host in
    unix://*) curl -fsS -o /dev/null --max-time "$seconds" --unix-socket "${host#unix://}" "http://engine$path" ;;
    tcp://*) curl -fsS -o /dev/null --max-time "$seconds" "http://${host#tcp://}$path" ;;
    esac 2>/dev/null
}

# state HOST: prints ok, hung, denied or absent. An engine is ok only if it also lists its
# networks: libnetwork of 20.10 can deadlock (moby/moby#46661); such an engine responds to
# pings, but all network operations hang.
state() {
    local host=$1 status=0
    if [[ $host != unix://* && $host != tcp://* || -n ${DOCKER_TLS_VERIFY:-} ]]; then
        # ssh and TLS are handled by the client.
        timeout 30 docker --host "$host" network ls >/dev/null 2>&1 || status=$?
        case $status in 0) echo ok ;; 124) echo hung ;; *) echo absent ;; esac
        return
    fi
    if [[ $host == unix://* && -S ${host#unix://} && ! -w ${host#unix://} ]]; then
        echo denied
        return
    fi
    { get "$host" /_ping 10 && get "$host" /networks 15; } || status=$?
    case $status in 0) echo ok ;; 28) echo hung ;; *) echo absent ;; esac
}

is_ok() { [[ $(state "$1") == ok ]]; }

# --- Engines started by these scripts ----------------------------------------------------------
#
# State directory of an engine: dockerd.pid (written by dockerd) and dockerd.log.

# our_pid DIR: prints the pid of the running dockerd with its state in DIR. The pid file
# may be stale, so the command line of the process must contain its path.
our_pid() {
    local pid=''
    pid=$(cat "$1/dockerd.pid" 2>/dev/null) && [[ -n $pid && -r /proc/$pid/cmdline ]] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" | grep -xF -- "--pidfile=$1/dockerd.pid" >/dev/null || return 1
    printf '%s\n' "$pid"
}

gone() { ! kill -0 "$1" 2>/dev/null || [[ $(awk '{ print $3 }' "/proc/$1/stat" 2>/dev/null) == Z ]]; }

# start_dockerd DIR HOST ARGUMENT...: starts dockerd detached from this shell, its
# terminal and its file descriptors. Returns once it responds.
start_dockerd() {
    local dir=$1 host=$2 child fd
    shift 2
    mkdir -p "$dir"
    rm -f "$dir/dockerd.pid"
    [[ ! -e $dir/dockerd.log ]] || mv -f "$dir/dockerd.log" "$dir/dockerd.log.1"
    (
        cd /
        # An inherited lock or pipe would stay open as long as the daemon runs.
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            ((fd <= 2 || fd == 255)) || eval "exec $fd>&-"
        done
        exec setsid nohup dockerd --host="$host" --pidfile="$dir/dockerd.pid" "$@" \
            </dev/null >"$dir/dockerd.log" 2>&1
    ) &
    child=$!
    wait_for 60 answers_or_gone "$host" "$child" && ! gone "$child" && return
    say "the last lines of $dir/dockerd.log:"
    tail -n 20 "$dir/dockerd.log" >&2
    gone "$child" || {
        kill "$child"
        wait_for 20 gone "$child" || kill -KILL "$child"
        die "dockerd did not answer at $host within 60 seconds" "its log is $dir/dockerd.log"
    }
    die "dockerd ended instead of answering at $host" "its log is $dir/dockerd.log"
}

answers_or_gone() { gone "$2" || is_ok "$1"; }

# stop_dockerd DIR EXEC_ROOT: stops the dockerd of DIR. A hung dockerd cannot stop its
# containers, so leftover processes are killed too; otherwise the next one could not
# start. They are identified by the exec root in their command line.
stop_dockerd() {
    local dir=$1 exec_root=$2 pid
    pid=$(our_pid "$dir") || return 0
    kill "$pid"
    wait_for 25 gone "$pid" || {
        say "dockerd ($pid) did not stop on SIGTERM: killing it"
        kill -KILL "$pid"
        wait_for 10 gone "$pid" || die "dockerd ($pid) cannot be killed" "reboot the machine"
    }
    rm -f "$dir/dockerd.pid"
    end_leftovers "$exec_root"
}

end_leftovers() {
    local file pid
    for file in $(grep -lsF -- "$1/containerd/" /proc/[0-9]*/cmdline || true); do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        [[ $(cat "/proc/$pid/comm" 2>/dev/null) == containerd* ]] || continue
        # An engine in a container uses the same path but is not ours.
        [[ /proc/$pid/ns/pid -ef /proc/self/ns/pid ]] || continue
        # The child of a shim is its container.
        pkill -KILL -P "$pid" || true
        kill -KILL "$pid" 2>/dev/null || true
        wait_for 5 gone "$pid" || say "process $pid of the old engine is still running"
    done
    rm -f "$1/containerd/containerd.pid"
}

# If dockerd finds the pid file of its previous containerd, it assumes that a process with
# that pid is containerd, even a zombie or an unrelated process, and fails when it does
# not respond.
# Usage: forget_dead_containerd EXEC_ROOT
forget_dead_containerd() {
    local file=$1/containerd/containerd.pid pid
    pid=$(cat "$file" 2>/dev/null) || return 0
    if gone "$pid" || [[ $(cat "/proc/$pid/comm" 2>/dev/null) != containerd ]]; then
        rm -f "$file"
    fi
}

# The MTU of the engine's default network must not exceed that of the uplink.
uplink_mtu() {
    local device
    device=$(awk '$2 == "00000000" { print $1; exit }' /proc/net/route)
    cat "/sys/class/net/${device:-none}/mtu" 2>/dev/null || echo 1500
}

# --- For make ------------------------------------------------------------------------

need_rust() {
    command -v cargo >/dev/null || [[ ! -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] ||
        PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || die "Rust is missing" "install it from https://rustup.rs, then run this again"
    command -v cc >/dev/null || install gcc libc6-dev
}

# need_sshd: installs sshd; only the tests start it.
need_sshd() {
    [[ ! -x /usr/sbin/sshd ]] || return 0
    install openssh-server
    ! has_systemd || systemctl --quiet disable --now ssh.service ssh.socket
}

need_shellcheck() { command -v shellcheck >/dev/null || install shellcheck; }

# need_cargo_deny: installs cargo-deny outside the clone, so that it is built only once.
# Built without optimization: that takes two minutes instead of ten, and a check takes a
# second either way.
need_cargo_deny() {
    local version=0.20.2 tools=$dev_dir/tools
    PATH=$tools/bin:$PATH
    [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]] && return
    make_dev_dir
    cargo install --quiet --locked --debug --no-default-features --version "$version" --root "$tools" cargo-deny
}

# use_engine: ensures that the engine named by ENGINE responds, and selects it for later
# commands; the array inside is the prefix of commands that must reach its containers.
use_engine() {
    local scripts
    inside=()
    scripts=$(dirname "${BASH_SOURCE[0]}")
    case ${ENGINE:=system} in
    system) "$scripts/engine.sh" start ;;
    26)
        DOCKER_HOST=$("$scripts/engine-26.sh" start)
        export DOCKER_HOST
        ;;
    28 | 28-containerd | podman | podman-rootless | podman-6)
        DOCKER_HOST=$("$scripts/engine-apart.sh" "$ENGINE" start)
        export DOCKER_HOST
        # shellcheck disable=SC2034 # used by the sourcing scripts
        inside=("$scripts/engine-apart.sh" "$ENGINE" enter)
        ;;
    *) die "unknown ENGINE: $ENGINE" "expected: system, 26, 28, 28-containerd, podman, podman-rootless or podman-6" ;;
    esac
}
