# Docker Compose for the findings. To be sourced, not executed.
# shellcheck shell=bash
#
# install_compose downloads Docker Compose of Debian unstable into a temporary folder, which
# is the current directory afterwards and is removed with the script. No engine is needed:
#
#   config    what Compose makes of ./compose.yaml or $COMPOSE_FILE, as JSON, or the error
#
# $COMPOSE may name a docker-compose of that version instead.

# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../dev/lib.sh"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

install_compose() {
    local version=2.40.3 apt
    COMPOSE=${COMPOSE:-}
    cd "$dir" || exit
    if [[ -z $COMPOSE ]]; then
        mkdir -p apt/state/lists/partial apt/cache/archives/partial
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) sid main" >apt/list
        # Lists and packages of its own: the machine's are left alone.
        apt=(apt-get -qq -o Dir::Etc::sourcelist="$dir/apt/list" -o Dir::Etc::sourceparts=/dev/null
            -o Dir::State="$dir/apt/state" -o Dir::Cache="$dir/apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
        "${apt[@]}" update
        "${apt[@]}" download docker-compose 2>/dev/null
        dpkg-deb -x docker-compose_*.deb apt/root
        COMPOSE=$dir/apt/root/usr/libexec/docker/cli-plugins/docker-compose
    fi
    "$COMPOSE" version | grep -qF " $version" || die "this is $("$COMPOSE" version)" "this finding is about $version"
    echo "Docker Compose $version:"
}

config() { "$COMPOSE" --project-name shop config --format json 2>&1 | sed '/^time=/d'; }

expect() {
    diff actual.txt - || die "the behaviour has changed" "see the lines above: < is what was seen"
}

# stacks STACK...: prints them on one line, with absolute paths. Each is a directory, or files
# separated by commas.
stacks() {
    local stack file files absolute all=()
    for stack in "$@"; do
        absolute=()
        IFS=, read -ra files <<<"$stack"
        for file in "${files[@]}"; do absolute+=("$(realpath "$file")"); done
        all+=("$(IFS=,; echo "${absolute[*]}")")
    done
    echo "${all[*]}"
}
