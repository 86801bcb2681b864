#!/usr/bin/env bash
# Usage: dev/images.sh [base]
#
# Builds the test images and the base image of the demo, or only the latter (base), on the
# engine of DOCKER_HOST or the client's default. Current images are kept: each test image
# has a label with a hash of its inputs.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cache=$dev_dir/cache
base=debian:bookworm-slim
# Not drillmaster.*: containers inherit the labels of their image.
label=dev.drillmaster.inputs
try_engine="is the engine well? see: dev/engine.sh status"

test_images() {
    local tar
    tar=$cache/busybox-$(recipe busybox_root).tar
    [[ -e $tar ]] || busybox_root "$tar"
    import "$tar" drillmaster/busybox:1 'CMD ["sh"]'
    # Same files with a different id: a new version without changes.
    import "$tar" drillmaster/busybox:2 'CMD ["sh"]' 'ENV VERSION=2'
    healthcheck_image
    import "$tar" drillmaster/volume:1 'CMD ["sh"]' 'VOLUME /data'
    # Used by the examples; tagged here only if no registry provides it.
    have busybox:1 || pull busybox:1 || timeout 30 docker tag drillmaster/busybox:1 busybox:1
}

# --- Up-to-date checks -------------------------------------------------------------

hash() { sha256sum | cut -c1-16; }

# The cache key is the text of the function that creates it.
recipe() { declare -f "$@" | hash; }

current() { [[ $(timeout 30 docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null) == "$2" ]]; }

id() { timeout 30 docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || true; }

# made IMAGE OLD_ID: removes the replaced image unless it is still in use.
made() {
    say "images: made $1"
    [[ -z $2 || $2 == "$(id "$1")" ]] || timeout 60 docker image rm "$2" >/dev/null 2>&1 || true
}

# Podman inspects shop/api:1 if asked for api:1 and there is none.
have() { timeout 30 docker image ls --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -xF "$1" >/dev/null; }

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

# Podman does not import health checks.
healthcheck_image() {
    local image=drillmaster/healthcheck:1 key old dockerfile
    dockerfile='FROM drillmaster/busybox:1
HEALTHCHECK --interval=1s --timeout=5s --retries=2 CMD ["test", "-f", "/tmp/healthy"]'
    key=$({ id drillmaster/busybox:1 && printf '%s\n' "$dockerfile"; } | hash)
    ! current "$image" "$key" || return 0
    old=$(id "$image")
    printf '%s\nLABEL %s=%s\n' "$dockerfile" "$label" "$key" |
        DOCKER_BUILDKIT=0 timeout 120 docker build --quiet --tag "$image" - >/dev/null 2>&1 ||
        die "could not build $image" "$try_engine"
    made "$image" "$old"
}

# Debian's static busybox with links for its commands, and minimal files in /etc for names
# and users. Built in a container, so that no tools are needed on the host.
busybox_root() {
    local tar=$1
    rm -f "$cache"/busybox-*.tar
    timeout 300 docker run --rm --interactive --network host "$base" sh -e >"$tar.new" 2>"$cache/busybox.log" <<'END' || {
        exec 3>&1 >&2
        apt-get update
        cd /tmp
        apt-get download busybox-static
        dpkg-deb -x busybox-static_*.deb deb
        mkdir root && cd root
        mkdir -p bin sbin usr/bin usr/sbin etc root proc sys dev var/www
        mkdir -m 1777 tmp
        cp ../deb/bin/busybox bin/
        for command in $(bin/busybox --list-full); do
            [ -e "$command" ] || ln -s /bin/busybox "$command"
        done
        printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
        printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
        printf 'hosts: files dns\n' >etc/nsswitch.conf
        tar --sort=name --mtime=@0 --numeric-owner --create . >&3
END
        tail -n 20 "$cache/busybox.log" >&2
        die "could not make a busybox in a container" "is Debian's mirror in reach? the words above may say"
    }
    mv "$tar.new" "$tar"
}

# --- The base image ----------------------------------------------------------------

base_image() {
    have "$base" && return
    pull "$base" && return
    local tar
    tar=$cache/debian-bookworm-$(recipe debian_root).tar
    [[ -e $tar ]] || debian_root "$tar"
    timeout 300 docker import --change 'CMD ["bash"]' "$tar" "$base" >/dev/null || die "could not import $base" "$try_engine"
    say "images: made $base"
}

# A registry must respond within 20 seconds; the pull itself may take longer.
pull() {
    local image=$1 log=$cache/pull.log pid status=0 end=$((SECONDS + 20)) started=''
    say "images: pulling $image"
    timeout 900 docker pull "$image" >"$log" 2>&1 &
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
    ((status == 0)) || say "images: no registry reachable ($(tail -n 1 "$log"))"
    return "$status"
}

# Like the official slim image: a minimal Debian without documentation.
debian_root() {
    local tar=$1 work root mirror
    can_install || die "$base can neither be pulled nor made here" "make a registry reachable, or run this as root on Debian"
    need debootstrap
    mirror=$(debian_mirror)
    rm -f "$cache"/debian-bookworm-*.tar
    work=$(mktemp -d "$cache/work.XXXXXX")
    root=$work/root
    say "images: making $base with debootstrap"
    timeout 900 debootstrap --variant=minbase bookworm "$root" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/debootstrap.log" >&2
        die "debootstrap failed" "its words are above; all of them are in $cache/debootstrap.log"
    }
    {
        echo "deb $mirror bookworm main"
        # Updates and security sources, if the host uses them.
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
    # Some packages create links in these directories and fail without them.
    find "$root/usr/share/man" -not -type d -delete
    mkdir -p "$root"/usr/share/man/man{1..9}
    # Rename when complete.
    tar --directory "$root" --numeric-owner --create --file "$tar.new" .
    mv "$tar.new" "$tar"
}

# --- Run -----------------------------------------------------------------------------

make_dev_dir
mkdir -p "$cache"
lock images
trap 'rm -rf "$cache"/work.* "$cache"/*.new' EXIT
need docker docker.io
[[ ${1:-all} == base ]] || {
    # For tests that pull.
    need docker-registry
    # For tests of engines over ssh.
    need_sshd
}
timeout 30 docker version >/dev/null 2>&1 || die "no engine answers" "start one: dev/engine.sh"
case ${1:-all} in
base) base_image ;;
all)
    base_image
    test_images
    ;;
*) die "unknown argument: $1" "usage: dev/images.sh [base]" ;;
esac
