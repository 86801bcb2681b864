# Shared by dev/soak.sh and dev/measure.sh: a group of its own under a watch. Sourced after
# dev/lib.sh, never run.
# shellcheck shell=bash

# prepare NAME: an engine, images, a release build, and a directory for a group.
# DRILLMASTER=path watches with another program.
prepare() {
    need_rust
    use_engine
    dev/images.sh
    if [[ -z ${DRILLMASTER:-} ]]; then
        cargo build --locked --release
        DRILLMASTER=${CARGO_TARGET_DIR:-target}/release/drillmaster
    fi
    home=$(mktemp -d "${TMPDIR:-/tmp}/drillmaster-$1.XXXXXX")
    # A build that comes along does not change what is watched with.
    cp "$DRILLMASTER" "$home/drillmaster"
    group=$1-$$
    watcher=''
    export XDG_STATE_HOME=$home/state
    mkdir -p "$home/specs"
    printf 'kind: Group\nname: %s\n' "$group" >"$home/specs/group.yaml"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

clean_up() {
    local status=$?
    trap - EXIT
    if [[ -n $watcher ]] && kill "$watcher" 2>/dev/null; then
        wait_for 30 gone "$watcher" || kill -KILL "$watcher"
    fi
    drillmaster down --volumes -q >/dev/null 2>&1 || say "left behind: the group $group"
    if ((status == 0)); then rm -rf "$home"; else say "what the watcher told is in $home"; fi
    exit "$status"
}

# In the directory that holds the specs.
drillmaster() { (cd "$home" && timeout 300 ./drillmaster "$@"); }

# Returns when everything is settled.
watch() {
    touch "$home/told"
    (cd "$home" && exec ./drillmaster up --watch --output json >"$home/told" 2>"$home/said") &
    watcher=$!
    wait_for 300 grep -q '"event":"watching"' "$home/told" || die "the watch does not come up" "see $home/said"
}

# service NUMBER: its name.
service() { printf 's%02d' "$1"; }

# write NAME: a spec, from stdin; it appears complete or not at all.
write() {
    cat >"$home/specs/.$1.new"
    mv "$home/specs/.$1.new" "$home/specs/$1.yaml"
}

# Of the watcher: resident memory in kB, and the part of it that is not its program, which
# the system brings in and takes out as it likes; open descriptors; seconds of processor time.
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$watcher/status"; }
own_memory() { awk '/^RssAnon/ { print $2 }' "/proc/$watcher/status"; }
descriptors() { find "/proc/$watcher/fd" -mindepth 1 | wc -l; }
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / hz }' "/proc/$watcher/stat"; }

# Milliseconds.
now() { date +%s%3N; }
