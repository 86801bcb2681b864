# Functions shared by dev/soak.sh and dev/measure.sh: a test group under a watch. To be
# sourced after dev/lib.sh, not executed.
# shellcheck shell=bash

# prepare NAME: provides an engine, images, a release build and a directory for a group.
# DRILLMASTER=path uses another binary.
prepare() {
    need_rust
    use_engine
    dev/images.sh
    if [[ -z ${DRILLMASTER:-} ]]; then
        cargo build --locked --release
        DRILLMASTER=${CARGO_TARGET_DIR:-target}/release/drillmaster
    fi
    home=$(mktemp -d "${TMPDIR:-/tmp}/drillmaster-$1.XXXXXX")
    # A copy of the binary, so that concurrent builds do not replace it.
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
    if ((status == 0)); then rm -rf "$home"; else say "the output of the watcher is in $home"; fi
    exit "$status"
}

# Run in the directory that contains the specs.
drillmaster() { (cd "$home" && timeout 300 ./drillmaster "$@"); }

# Returns once the watch has settled.
watch() {
    touch "$home/events"
    (cd "$home" && exec ./drillmaster up --watch --output json >"$home/events" 2>"$home/stderr") &
    watcher=$!
    wait_for 300 grep -q '"event":"watching"' "$home/events" || die "the watch did not start" "see $home/stderr"
}

# service NUMBER: prints its name.
service() { printf 's%02d' "$1"; }

# write NAME: writes a spec from stdin; renamed when complete.
write() {
    cat >"$home/specs/.$1.new"
    mv "$home/specs/.$1.new" "$home/specs/$1.yaml"
}

# Resource usage of the watcher: resident memory in kB; the part of it without the binary,
# whose pages the system loads and evicts as needed; open descriptors; CPU time in
# seconds.
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$watcher/status"; }
memory_without_binary() { awk '/^RssAnon/ { print $2 }' "/proc/$watcher/status"; }
descriptors() { find "/proc/$watcher/fd" -mindepth 1 | wc -l; }
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / hz }' "/proc/$watcher/stat"; }

# Current time in milliseconds.
now() { date +%s%3N; }
