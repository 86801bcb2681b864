# Engines for the findings. To be sourced, not executed.
# shellcheck shell=bash
#
# start_engine docker-overlay2|docker-containerd|podman VERSION starts an engine of Debian
# unstable in a temporary folder, with a root, network, mount table and process table of
# its own, and an image named `busybox`. Everything ends with the script. After it:
#
#   docker ...           the client, inside
#   on_engine COMMAND    any command inside, where the addresses of containers are reached
#   api METHOD PATH [JSON]    the reply of the engine; code METHOD PATH [JSON]: its status
#   $DOCKER_HOST         for clients outside
#   $dir                 the temporary folder, which has the same path inside
#
# As root on Debian. FINDINGS_ROOT may name a root that already has the packages below; it
# is not changed, and spares their installation in every run.

# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../dev/lib.sh"

engine_packages=docker.io,docker-cli,docker-buildx,podman,crun,runc,netavark,aardvark-dns,iptables,nftables,iproute2,conmon,procps,ca-certificates

# Not below $TMPDIR, which may be an overlay: those cannot be stacked.
dir=$(mktemp -d /var/tmp/finding.XXXXXX)
trap end_engine EXIT
trap 'exit 130' INT TERM

end_engine() {
    local status=$? at id
    # With the first process of the process table, all others end.
    [[ -z ${holder:-} ]] || {
        kill -KILL "${held:-$holder}" 2>/dev/null || true
        wait "$holder" 2>/dev/null || true
    }
    # Docker's control groups are below one, Podman's beside those of other Podmans.
    for at in /sys/fs/cgroup{,/*}/"${dir##*/}"; do remove_groups "$at"; done
    for id in "$dir"/data/overlay-containers/*/; do
        for at in /sys/fs/cgroup{,/*}/libpod_parent/"libpod-$(basename "$id")"; do remove_groups "$at"; done
    done
    rm -rf "$dir" 2>/dev/null || { sleep 1; rm -rf "$dir"; }
    exit "$status"
}

remove_groups() { [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + || true; }

# start_engine KIND VERSION
start_engine() {
    local version=$2 found
    kind=$1
    ((EUID == 0)) || die "engines can be started only as root" "run this as root on Debian"
    DOCKER_HOST=unix://$dir/engine.sock
    export DOCKER_HOST
    make_root
    hold
    case $kind in
    docker-*) configure_docker ;;
    podman) configure_podman ;;
    esac
    launch
    found=$(api GET /version | jq -r .Version)
    [[ ${found%%+*} == "$version" ]] || die "the engine is $found" "this finding is about $version"
    echo "$kind $version:"
    make_image
}

make_root() {
    root=${FINDINGS_ROOT:-}
    [[ -z $root ]] || return 0
    command -v debootstrap >/dev/null || die "debootstrap is missing" "install it"
    root=$dir/root
    debootstrap --variant=minbase --include=$engine_packages sid "$root" "$(debian_mirror)" >"$dir/debootstrap.log" 2>&1 || {
        tail -n 5 "$dir/debootstrap.log" >&2
        die "could not install Debian unstable" "its last words are above"
    }
}

# The root is the lower layer of an overlay; the data is beside it.
hold() {
    mkdir -p "$dir"/{upper,work,merged,data}
    # shellcheck disable=SC2016 # the inner shell expands
    root=$root dir=$dir setsid unshare --net --mount --pid --fork --kill-child bash -ec '
        ip link set lo up
        mount --make-rprivate /
        mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" "$dir/merged"
        cd "$dir/merged"
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
        mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp
        mkdir -p ".$dir" .outside; mount --bind "$dir" ".$dir"
        # Its root must be the root of its mount table: under a bare chroot, exec into a
        # container shows the outside.
        pivot_root . .outside; cd /; umount -l /.outside
        touch "$dir/held"
        exec sleep infinity' </dev/null >"$dir/holder.log" 2>&1 &
    holder=$!
    wait_for 20 test -e "$dir/held" || {
        cat "$dir/holder.log" >&2
        die "could not create the namespaces"
    }
    held=$(pgrep -P "$holder")
}

on_engine() { nsenter --net --mount --pid --root --wdns=/ --target "$held" env DOCKER_HOST="$DOCKER_HOST" "$@"; }

docker() { on_engine docker "$@"; }

configure_docker() {
    local containerd=false
    [[ $kind == docker-overlay2 ]] || containerd=true
    printf '{"features": {"containerd-snapshotter": %s}, "userland-proxy": %s,
        "default-address-pools": [{"base": "10.223.0.0/16", "size": 24}]}\n' \
        "$containerd" "${USERLAND_PROXY:-true}" >"$dir/daemon.json"
}

# No systemd: control groups by hand, events and logs in files.
configure_podman() {
    on_engine mkdir -p /etc/containers
    on_engine tee /etc/containers/containers.conf >/dev/null <<<'[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
[containers]
log_driver="k8s-file"'
    on_engine tee /etc/containers/policy.json >/dev/null <<<'{"default":[{"type":"insecureAcceptAnything"}]}'
    on_engine tee /etc/containers/storage.conf >/dev/null <<<"[storage]
driver=\"overlay\"
graphroot=\"$dir/data\"
runroot=\"/run/containers/storage\""
}

launch() {
    local command
    case $kind in
    podman) command=(env PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman system service --time=0 "$DOCKER_HOST") ;;
    *) command=(dockerd --config-file="$dir/daemon.json" --data-root="$dir/data" --exec-root=/run/docker
        --pidfile=/run/docker.pid --host="$DOCKER_HOST" --cgroup-parent="/${dir##*/}" --group=root) ;;
    esac
    on_engine "${command[@]}" </dev/null >>"$dir/engine.log" 2>&1 &
    wait_for 60 answers || {
        tail -n 10 "$dir/engine.log" >&2
        die "the engine does not answer" "its last words are above"
    }
}

answers() { curl -fsS -o /dev/null --max-time 5 --unix-socket "$dir/engine.sock" http://engine/_ping 2>/dev/null; }

# Stops dockerd as a service manager does, and starts it again.
restart_engine() {
    # shellcheck disable=SC2016 # the inner shell expands
    on_engine sh -c 'kill "$(cat /run/docker.pid)"'
    wait_for 60 on_engine test ! -e /run/docker.pid
    launch
}

api() {
    curl -sS --max-time 60 --unix-socket "$dir/engine.sock" -X "$1" \
        ${3:+--header 'Content-Type: application/json' --data "$3"} "http://engine$2"
}

code() {
    curl -sS --max-time 60 --unix-socket "$dir/engine.sock" -o /dev/null -w '%{http_code}\n' -X "$1" \
        ${3:+--header 'Content-Type: application/json' --data "$3"} "http://engine$2"
}

# Debian's static busybox with links for its commands.
make_image() {
    local applet
    (
        cd "$dir" || exit
        apt-get -qq download busybox-static >/dev/null 2>&1 ||
            { apt-get -qq update && apt-get -qq download busybox-static; } >/dev/null
        dpkg-deb -x busybox-static_*.deb deb
    )
    mkdir -p "$dir"/image/{bin,etc,tmp}
    cp "$dir/deb/bin/busybox" "$dir/image/bin/"
    for applet in $("$dir/image/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$dir/image/bin/$applet"
    done
    echo 'root:x:0:0:root:/:/bin/sh' >"$dir/image/etc/passwd"
    tar --directory "$dir/image" --owner 0 --group 0 --numeric-owner --create --file "$dir/busybox.tar" .
    docker import - busybox <"$dir/busybox.tar" >/dev/null
}

# import NAME: the same files as another image
import() { docker import - "$1" <"$dir/busybox.tar" >/dev/null; }

# A field of a container: state NAME FORMAT
state() { docker container inspect --format "$2" "$1"; }

# is STATUS NAME: for wait_for
is() { [[ $(state "$2" '{{.State.Status}}') == "$1" ]]; }

# The observations are the lines in $dir/actual.txt; those expected are on stdin.
expect() {
    diff "$dir/actual.txt" - || die "the behaviour has changed" "see the lines above: < is what was seen"
}
