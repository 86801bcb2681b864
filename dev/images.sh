#!/usr/bin/env bash
# Usage: dev/images.sh [test|demo]
#
# Makes the images of the tests, of the demo, or (without an argument) all, on the
# engine of DOCKER_HOST or the client's own. What is there and current is left alone:
# each image made here carries a hash of what it was made from.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$dev_dir/cache
base=debian:bookworm-slim
# Not drillmaster.*: containers inherit their image's labels.
label=dev.drillmaster.inputs

test_images() {
    local tar
    tar=$cache/busybox-$(recipe busybox_root).tar
    [[ -e $tar ]] || busybox_root "$tar"
    import "$tar" drillmaster/busybox:1 'CMD ["sh"]'
    # The same files and another id: a new version that changes nothing.
    import "$tar" drillmaster/busybox:2 'CMD ["sh"]' 'ENV VERSION=2'
    import "$tar" drillmaster/healthcheck:1 'CMD ["sh"]' \
        'HEALTHCHECK --interval=1s --timeout=5s --retries=2 CMD ["test", "-f", "/tmp/healthy"]'
    import "$tar" drillmaster/volume:1 'CMD ["sh"]' 'VOLUME /data'
}

demo_images() {
    base_image
    build drillmaster/appdb:1 "$top/demo/appdb"
    build drillmaster/todo:1 "$top/demo/todo"
}

# --- What is current -------------------------------------------------------------

hash() { sha256sum | cut -c1-16; }

# A cache is as old as the function that fills it.
recipe() { declare -f "$@" | hash; }

current() { [[ $(timeout 30 docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null) == "$2" ]]; }

id() { timeout 30 docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || true; }

# made IMAGE OLD_ID: the one it replaces goes, unless something still uses it.
made() {
    say "images: made $1"
    [[ -z $2 || $2 == "$(id "$1")" ]] || timeout 60 docker image rm "$2" >/dev/null 2>&1 || true
}

have() { timeout 30 docker image inspect "$1" >/dev/null 2>&1; }

# --- Test images -----------------------------------------------------------------

# import TAR IMAGE INSTRUCTION...
import() {
    local tar=$1 image=$2 key old instruction changes=()
    shift 2
    key=$({ sha256sum <"$tar" && printf '%s\n' "$@"; } | hash)
    ! current "$image" "$key" || return 0
    old=$(id "$image")
    for instruction in "$@" "LABEL $label=$key"; do changes+=(--change "$instruction"); done
    timeout 120 docker import "${changes[@]}" "$tar" "$image" >/dev/null || die "could not import $image" "$try_engine"
    made "$image" "$old"
}

# Debian's static busybox with a link for each of its commands, and just enough
# of /etc for names and users.
busybox_root() {
    local tar=$1 work root command
    can_install || die "$(basename "$tar") has to be made" "run this once as root on Debian"
    work=$(work_dir)
    root=$work/root
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,root,proc,sys,dev,var/www}
    mkdir -m 1777 "$root/tmp"
    # Fetched, not installed: it would replace the machine's own busybox.
    (cd "$work" && { download busybox-static || { apt update >&2 && download busybox-static; }; }) ||
        die "apt could not fetch busybox-static" "is the mirror in reach? try: apt-get update"
    dpkg-deb -x "$work"/busybox-static_*.deb "$work/deb"
    cp "$work/deb/bin/busybox" "$root/bin/busybox"
    "$root/bin/busybox" --list-full | while read -r command; do
        [[ -e $root/$command ]] || ln -s /bin/busybox "$root/$command"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
    pack "$root" "$tar" --owner=0 --group=0
}

download() { apt -o APT::Sandbox::User=root download "$1" >&2; }

# --- The base image ----------------------------------------------------------------

base_image() {
    have "$base" && return
    pull_base && return
    local tar
    tar=$cache/debian-bookworm-$(recipe debian_root).tar
    [[ -e $tar ]] || debian_root "$tar"
    timeout 300 docker import --change 'CMD ["bash"]' "$tar" "$base" >/dev/null || die "could not import $base" "$try_engine"
    say "images: made $base"
}

# A registry that does not answer within 20 seconds is none; one that does may
# take its time.
pull_base() {
    local log=$cache/pull.log pid status=0 end=$((SECONDS + 20)) started=''
    say "images: pulling $base"
    timeout 900 docker pull "$base" >"$log" 2>&1 &
    pid=$!
    until gone "$pid"; do
        if [[ -z $started ]] && grep -q 'Pulling from' "$log"; then
            started=yes
            end=$((SECONDS + 600))
        fi
        ((SECONDS < end)) || {
            kill "$pid"
            break
        }
        sleep 0.2
    done
    wait "$pid" || status=$?
    ((status == 0)) || say "images: no registry in reach ($(tail -n 1 "$log"))"
    return "$status"
}

# What the official slim image is: a minimal Debian without documentation.
debian_root() {
    local tar=$1 work root mirror
    can_install || die "$base can neither be pulled nor made here" "make a registry reachable, or run this as root on Debian"
    need debootstrap
    mirror=$(debian_mirror)
    work=$(work_dir)
    root=$work/root
    say "images: making $base with debootstrap"
    timeout 900 debootstrap --variant=minbase bookworm "$root" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/debootstrap.log" >&2
        die "debootstrap failed" "its words are above; all of them are in $cache/debootstrap.log"
    }
    {
        echo "deb $mirror bookworm main"
        # Updates and security, where the machine gets its own.
        # shellcheck disable=SC2016 # apt fills in $(…), not the shell
        apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) main' \
            'Created-By: Packages' 'Origin: Debian' 'Component: main' | grep ' bookworm-' || true
    } >"$root/etc/apt/sources.list"
    echo 'Acquire::Languages "none";' >"$root/etc/apt/apt.conf.d/slim"
    printf 'path-exclude %s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' \
        >"$root/etc/dpkg/dpkg.cfg.d/slim"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
    (
        cd "$root"
        rm -rf usr/share/{doc,info,locale}/* var/lib/apt/lists/* var/cache/apt/* var/log/* dev/* etc/{hostname,resolv.conf}
    )
    # Some packages put links into these and fail where they are missing.
    find "$root/usr/share/man" -not -type d -delete
    mkdir -p "$root"/usr/share/man/man{1..9}
    pack "$root" "$tar"
}

# --- The demo ------------------------------------------------------------------------

# build IMAGE DIRECTORY: with the classic builder, which every engine has; BuildKit
# needs a client plugin that Debian does not bring.
build() {
    local image=$1 dir=$2 key old proxy arguments=()
    key=$({
        id "$base"
        (cd "$dir" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    } | hash)
    ! current "$image" "$key" || return 0
    old=$(id "$image")
    for proxy in http_proxy https_proxy no_proxy; do
        [[ -z ${!proxy:-} ]] || arguments+=(--build-arg "$proxy")
    done
    say "images: building $image (takes a minute)"
    DOCKER_BUILDKIT=0 timeout 900 docker build ${arguments[@]+"${arguments[@]}"} --rm --force-rm \
        --label "$label=$key" --tag "$image" "$dir" >"$cache/build.log" 2>&1 || {
        tail -n 30 "$cache/build.log" >&2
        die "could not build $image" "its output is above; all of it is in $cache/build.log"
    }
    made "$image" "$old"
}

# --- Helpers -------------------------------------------------------------------------

try_engine="is the engine well? see: dev/engine.sh status"

# A directory that goes away with the script.
work_dir() { mktemp -d "$cache/work.XXXXXX"; }
clean() { rm -rf "$cache"/work.*; }

# pack ROOT TAR [OPTION]...: appears complete or not at all.
pack() {
    local root=$1 tar=$2
    shift 2
    tar --directory "$root" --sort=name --mtime=@0 --numeric-owner "$@" --create --file "$tar.new" .
    mv "$tar.new" "$tar"
}

make_dev_dir
mkdir -p "$cache"
lock images
trap clean EXIT
need docker docker.io
timeout 30 docker version >/dev/null 2>&1 || die "no engine answers" "start one: dev/engine.sh"
case ${1:-all} in
test)
    base_image
    test_images
    ;;
demo) demo_images ;;
all)
    demo_images
    test_images
    ;;
*) die "unknown argument: $1" "usage: dev/images.sh [test|demo]" ;;
esac
