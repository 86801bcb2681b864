#!/usr/bin/env bash
# Usage: dev/engine-apart.sh ENGINE [start|stop|restart|status]
#        dev/engine-apart.sh ENGINE enter COMMAND...
#
# A newer engine beside the system's, in a root, network namespace and mount table of its
# own: nothing of the machine's is touched, and nothing remains mounted when it ends.
#
#   28, 28-containerd   Docker of Debian unstable, with the classic image store or containerd's
#   podman              Podman of Debian unstable, as a service for clients of Docker
#   podman-rootless     the same, run by a user without root
#   podman-6            Podman of Debian experimental
#
# start prints only the engine's DOCKER_HOST on stdout. Addresses of containers and their
# published ports can be reached only inside of its network: enter runs a command there,
# with DOCKER_HOST set.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

engine=${1:-}
case $engine in
28 | 28-containerd | podman | podman-rootless) suite=unstable ;;
podman-6) suite=experimental ;;
*) die "unknown engine: ${engine:-(none)}" "usage: dev/engine-apart.sh 28|28-containerd|podman|podman-rootless|podman-6 [start|stop|restart|status|enter COMMAND...]" ;;
esac
dir=$dev_dir/$engine
root=$dev_dir/roots/$suite
host=unix://$dir/engine.sock
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The user of podman-rootless, and how to become it.
user=engine uid=1000 home=/home/engine cgroup=/sys/fs/cgroup/drillmaster-$engine
as_user=()
[[ $engine != podman-rootless ]] ||
    as_user=(setpriv "--reuid=$user" "--regid=$user" --init-groups env "HOME=$home" "USER=$user" "XDG_RUNTIME_DIR=/run/user/$uid")

# --- The root: a Debian of a later release ------------------------------------------------

packages=docker.io,docker-cli,docker-buildx,podman,crun,runc,netavark,aardvark-dns,iptables,nftables,iproute2,conmon,procps,ca-certificates
# Of Podman: for `init: true`, and for users without root.
packages+=,catatonit,uidmap,passt,fuse-overlayfs

make_root() {
    [[ ! -e $root.made ]] || {
        complete_root
        return
    }
    need debootstrap >&2
    say "$engine: installing Debian $suite in $root"
    mkdir -p "$(dirname "$root")"
    debootstrap --variant=minbase --include=$packages sid "$root" "$(debian_mirror)" >"$root.log" 2>&1 ||
        die "could not install Debian unstable" "its log is $root.log"
    if [[ $suite == experimental ]]; then
        echo "deb $(debian_mirror) experimental main" >"$root/etc/apt/sources.list.d/experimental.list"
        cp /etc/resolv.conf "$root/etc/resolv.conf"
        { root_update &&
            chroot "$root" apt-get -qq -y --no-install-recommends install -t experimental podman netavark; } >>"$root.log" 2>&1 ||
            die "could not install Podman of Debian experimental" "its log is $root.log"
    fi
    printf '%s\n' "$packages" >"$root.made"
}

# A mirror may be weeks behind.
root_update() { chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false update; }

# Installs what the list has gained since the root was made.
complete_root() {
    [[ $(cat "$root.made") != "$packages" ]] || return 0
    say "$engine: installing more packages in $root"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    { root_update &&
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq -y --no-install-recommends install ${packages//,/ }; } \
        >>"$root.log" 2>&1 || die "could not install the packages of $engine" "the log is $root.log"
    printf '%s\n' "$packages" >"$root.made"
}

# --- Its namespaces, held by a process that only sleeps --------------------------------------------

holder() {
    local pid
    pid=$(cat "$dir/holder.pid" 2>/dev/null) && ! gone "$pid" && printf '%s\n' "$pid"
}

hold() {
    holder >/dev/null && return
    local generation=''
    [[ $engine != podman-6 && $engine != podman-rootless ]] || generation=2
    # shellcheck disable=SC2016 # the inner shell expands
    root=$root dir=$dir dev_dir=$dev_dir project=$project generation=$generation setsid unshare --net --mount bash -ec '
        ip link set lo up
        # A root that is a mount: what runs containers insists on it.
        mount --bind "$root" "$root"
        mount --rbind /proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
        if [[ -n $generation ]]; then
            # Podman 6 knows only the second generation of control groups, and crun no mixture.
            mount --make-rprivate /
            umount -l "$root/sys/fs/cgroup"; mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
        fi
        mount -t tmpfs tmpfs "$root/run"
        for device in fuse net/tun; do
            # Readable by every user.
            node=$root/run/${device#*/}
            mknod -m 666 "$node" c 10 "$(stat -c %Lr "/dev/$device")"
            mount --bind "$node" "$root/dev/$device"
        done
        # The same paths inside as outside, for bind mounts and the socket.
        mount --rbind /tmp "$root/tmp"
        for shared in "$dev_dir" "$project"; do
            mkdir -p "$root$shared"; mount --rbind "$shared" "$root$shared"
        done
        echo $$ >"$dir/holder.pid"
        # Its root must be the root of its mount table: under a bare chroot, exec into a
        # container shows the outside.
        cd "$root"; mkdir -p .outside; pivot_root . .outside; cd /; umount -l /.outside
        exec sleep infinity' {lock_fd}>&- </dev/null >>"$dir/engine.log" 2>&1 &
    wait_for 20 holder >/dev/null || die "could not create the namespaces of $engine" "see $dir/engine.log"
    wait_for 10 pivoted || die "could not change the root of $engine" "see $dir/engine.log"
}

pivoted() { [[ $(cat "/proc/$(holder)/comm" 2>/dev/null) == sleep ]]; }

inside() { nsenter --net --mount --root --wdns=/ --target "$(holder)" "$@"; }

# --- The engine ----------------------------------------------------------------

pid() {
    local pid
    pid=$(cat "$dir/engine.pid" 2>/dev/null) && ! gone "$pid" && printf '%s\n' "$pid"
}

configure() {
    local pools=10.221.0.0/16 snapshotter=false runtime=runc containers=''
    [[ $engine == 28 ]] || pools=10.222.0.0/16 snapshotter=true
    # Where control groups of both generations are in use, the second has no limit of processes.
    [[ $suite != experimental ]] || runtime=crun containers='pids_limit=0'
    case $engine in
    28 | 28-containerd)
        printf '{"features": {"containerd-snapshotter": %s}, "default-address-pools": [{"base": "%s", "size": 24}]}\n' \
            $snapshotter $pools >"$dir/daemon.json"
        ;;
    podman*)
        local config=/etc/containers run=/run/containers
        if [[ $engine == podman-rootless ]]; then
            config=$home/.config/containers run=/run/user/$uid/containers runtime=crun
            inside id $user >/dev/null 2>&1 || inside useradd --create-home --uid $uid $user
            inside install -d -o $user -g $user "/run/user/$uid" $home/.config $config
            mkdir -p "$dir/data"
            chown $uid "$dir" "$dir/data"
        fi
        # No systemd: control groups by hand, events and logs in files. RUN in builds raises the limits of open
        # files and processes, which needs a right that may be missing.
        inside mkdir -p /etc/containers /var/lib/containers $config
        inside tee $config/containers.conf >/dev/null <<END
[engine]
runtime="$runtime"
cgroup_manager="cgroupfs"
events_logger="file"
[containers]
log_driver="k8s-file"
$containers
default_ulimits=["nofile=$(ulimit -H -n):$(ulimit -H -n)", "nproc=$(ulimit -H -u):$(ulimit -H -u)"]
END
        inside tee /etc/containers/policy.json >/dev/null <<<'{"default":[{"type":"insecureAcceptAnything"}]}'
        # As Docker has it: registries on this machine may do without TLS.
        inside tee $config/registries.conf >/dev/null <<<$'[[registry]]\nlocation="127.0.0.1"\ninsecure=true'
        inside tee $config/storage.conf >/dev/null <<END
[storage]
driver="overlay"
graphroot="$dir/data"
runroot="$run/storage"
END
        ;;
    esac
}

# Prints commands that enter a control group of the user.
own_cgroup() {
    [[ $engine == podman-rootless ]] || return 0
    echo "mkdir -p $cgroup/service; chown -R $user $cgroup; echo \$\$ >$cgroup/service/cgroup.procs"
}

launch() {
    local program
    rm -f "$dir/engine.sock" "$dir/engine.pid" "$dir/dockerd.pid" "$dir/exec/containerd/containerd.pid"
    case $engine in
    podman*)
        program="cd /; export PODMAN_IGNORE_CGROUPSV1_WARNING=1; $(own_cgroup)
            exec ${as_user[*]} podman system service --time=0 'unix://$dir/engine.sock'"
        ;;
    *) program="exec dockerd --config-file='$dir/daemon.json' --data-root='$dir/data' --exec-root='$dir/exec' \
        --pidfile='$dir/dockerd.pid' --host='unix://$dir/engine.sock' --cgroup-parent='/drillmaster-$engine' --group=root" ;;
    esac
    setsid nsenter --net --mount --root --wdns=/ --target "$(holder)" \
        sh -c "echo \$\$ >'$dir/engine.pid'; $program" {lock_fd}>&- </dev/null >>"$dir/engine.log" 2>&1 &
    wait_for 60 is_ok "$host" || {
        tail -n 10 "$dir/engine.log" >&2
        die "$engine does not answer" "its log is $dir/engine.log"
    }
}

start() {
    can_install || die "$engine can be started only as root on Debian" "use the system's engine instead"
    need curl >&2
    need ip iproute2 >&2
    mkdir -p "$dir"
    make_root
    hold
    if ! pid >/dev/null; then
        configure
        launch
        say "$engine: started, its log is $dir/engine.log"
    fi
    printf '%s\n' "$host"
}

# Its containers go with it, and so does its network.
stop() {
    local engine_pid holder_pid
    if engine_pid=$(pid); then
        [[ $engine != podman* ]] || inside "${as_user[@]}" podman rm --all --force --time 1 >/dev/null 2>&1 || true
        kill "$engine_pid"
        wait_for 30 gone "$engine_pid" || kill -KILL "$engine_pid"
    fi
    if holder_pid=$(holder); then
        kill "$holder_pid"
        wait_for 10 gone "$holder_pid" || kill -KILL "$holder_pid"
    fi
    rm -f "$dir/engine.pid" "$dir/holder.pid" "$dir/engine.sock"
    say "$engine: stopped"
}

command=${2:-start}
case $command in
start | stop | restart)
    make_dev_dir
    lock "engine-$engine"
    ;;
esac
case $command in
start) start ;;
stop) stop ;;
restart)
    stop
    start
    ;;
status)
    say "$engine: $(state "$host") at $host"
    is_ok "$host"
    ;;
enter)
    shift 2
    holder >/dev/null || die "$engine is not running" "start it: dev/engine-apart.sh $engine"
    exec nsenter --net --target "$(holder)" env DOCKER_HOST="$host" "$@"
    ;;
*) die "unknown command: $command" "usage: dev/engine-apart.sh $engine [start|stop|restart|status|enter COMMAND...]" ;;
esac
