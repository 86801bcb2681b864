# Shared by the scripts in dev/: sourced, never run.
# shellcheck shell=bash

# Daemons live in sbin, which is not on everybody's path.
PATH=$PATH:/usr/sbin:/sbin

# Everything the scripts keep between runs (pids, logs, caches) lies outside the
# clone, so that a fresh clone finds the engine and the caches of the last one.
dev_dir=${DRILLMASTER_DEV_DIR:-/var/tmp/drillmaster-dev}
# Root's are not for others, nor theirs for root.
((EUID == 0)) || dev_dir=${DRILLMASTER_DEV_DIR:-/var/tmp/drillmaster-dev-$EUID}

# shellcheck disable=SC2034 # used by those who source this
default_host=unix:///var/run/docker.sock

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    shift
    (($# == 0)) || say "       $*"
    exit 1
}

# wait_for SECONDS COMMAND...: until the command succeeds, or fails after SECONDS.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# Makes dev_dir. It has a well-known name in a directory everyone may write to,
# so one that somebody else made is not trusted.
make_dev_dir() {
    mkdir -p "$dev_dir"
    [[ -O $dev_dir && ! -L $dev_dir ]] ||
        die "$dev_dir belongs to somebody else" "set DRILLMASTER_DEV_DIR to a directory of your own"
}

# Two runs at once would start two engines: one waits for the other.
# The lock goes with the process.
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

# install PACKAGE...: no service is started by it unless systemd will look after
# it: policy-rc.d is how Debian's packages are told so.
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
        die "apt could not install $*" "its words are above; all of them are in $log"
    }
}

# need COMMAND [PACKAGE]: the command, installed when it is missing.
need() { command -v "$1" >/dev/null || install "${2:-$1}"; }

# The Debian mirror this machine uses itself: no script here names a host.
debian_mirror() {
    local mirror
    mirror=$(first_mirror)
    [[ -n $mirror ]] || {
        apt update >&2
        mirror=$(first_mirror)
    }
    [[ -n $mirror ]] || die "apt knows no Debian mirror" "add one to /etc/apt/sources.list.d and run apt-get update"
    printf '%s\n' "$mirror"
}

first_mirror() {
    # shellcheck disable=SC2016 # apt fills in $(…), not the shell
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        awk '$1 !~ /-/ && $2 ~ /^http/ { print $2; exit }' || true
}

# --- Asking an engine ------------------------------------------------------------

# get HOST PATH SECONDS: curl's exit status tells absent (7) from hung (28).
get() {
    local host=$1 path=$2 seconds=$3
    case $host in
    unix://*) curl -fsS -o /dev/null --max-time "$seconds" --unix-socket "${host#unix://}" "http://engine$path" ;;
    tcp://*) curl -fsS -o /dev/null --max-time "$seconds" "http://${host#tcp://}$path" ;;
    esac 2>/dev/null
}

# state HOST: ok, hung, denied or absent. An engine counts as ok when it also lists
# its networks: libnetwork of 20.10 can deadlock (moby/moby#46661), and then the
# engine still answers pings while everything that touches a network hangs for good.
state() {
    local host=$1 status=0
    if [[ $host != unix://* && $host != tcp://* || -n ${DOCKER_TLS_VERIFY:-} ]]; then
        # ssh, TLS: the client knows how.
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

# --- An engine of our own ----------------------------------------------------------
#
# Its state lies in one directory: dockerd.pid (written by dockerd) and dockerd.log.

# our_pid DIR: the pid of the living dockerd that was started with its state in DIR.
# The pid file outlives reboots, so the process has to name that very file.
our_pid() {
    local pid=''
    pid=$(cat "$1/dockerd.pid" 2>/dev/null) && [[ -n $pid && -r /proc/$pid/cmdline ]] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" | grep -xF -- "--pidfile=$1/dockerd.pid" >/dev/null || return 1
    printf '%s\n' "$pid"
}

gone() { ! kill -0 "$1" 2>/dev/null || [[ $(awk '{ print $3 }' "/proc/$1/stat" 2>/dev/null) == Z ]]; }

# start_dockerd DIR HOST ARGUMENT...: detached from this shell, its terminal and
# its files, so that it outlives them; returns when it answers.
start_dockerd() {
    local dir=$1 host=$2 child fd
    shift 2
    mkdir -p "$dir"
    rm -f "$dir/dockerd.pid"
    [[ ! -e $dir/dockerd.log ]] || mv -f "$dir/dockerd.log" "$dir/dockerd.log.1"
    (
        cd /
        # A daemon that keeps a lock or somebody's pipe open blocks them for ever.
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

# stop_dockerd DIR EXEC_ROOT: ends the dockerd of DIR. One that hangs cannot stop
# its containers, so what it leaves behind is ended too, or the next one could not
# start: it is known by the engine's own exec root in its command line.
stop_dockerd() {
    local dir=$1 exec_root=$2 pid
    pid=$(our_pid "$dir") || return 0
    kill "$pid"
    wait_for 25 gone "$pid" || {
        say "dockerd ($pid) does not end when told to: killing it"
        kill -KILL "$pid"
        wait_for 10 gone "$pid" || die "dockerd ($pid) cannot be killed" "only a reboot helps"
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
        # An engine inside a container uses the same path and is none of ours.
        [[ /proc/$pid/ns/pid -ef /proc/self/ns/pid ]] || continue
        # A shim's child is its container.
        pkill -KILL -P "$pid" || true
        kill -KILL "$pid" 2>/dev/null || true
        wait_for 5 gone "$pid" || say "process $pid of the old engine is still there"
    done
    rm -f "$1/containerd/containerd.pid"
}

# A dockerd that finds the pid of its last containerd takes a process of that number for it, also one that is dead
# and waits for its parent to notice, and gives up when it does not answer.
# Usage: forget_dead_containerd EXEC_ROOT
forget_dead_containerd() {
    local file=$1/containerd/containerd.pid pid
    pid=$(cat "$file" 2>/dev/null) || return 0
    if gone "$pid" || [[ $(cat "/proc/$pid/comm" 2>/dev/null) != containerd ]]; then
        rm -f "$file"
    fi
}

# The engine's default network must not send larger packets than the machine's
# own way out takes.
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

need_shellcheck() { command -v shellcheck >/dev/null || install shellcheck; }

# need_cargo_deny: installs it outside the clone, so that it is built once. Unoptimized, because that takes two minutes
# instead of ten, and a check takes a second either way.
need_cargo_deny() {
    local version=0.20.2 tools=$dev_dir/tools
    PATH=$tools/bin:$PATH
    [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]] && return
    make_dev_dir
    cargo install --quiet --locked --debug --no-default-features --version "$version" --root "$tools" cargo-deny
}

# use_engine: the one named by ENGINE answers, and what runs from here on uses it.
use_engine() {
    local scripts
    scripts=$(dirname "${BASH_SOURCE[0]}")
    case ${ENGINE:=system} in
    system) "$scripts/engine.sh" start ;;
    next)
        DOCKER_HOST=$("$scripts/engine-next.sh" start)
        export DOCKER_HOST
        ;;
    *) die "unknown ENGINE: $ENGINE" "it is system or next" ;;
    esac
}
