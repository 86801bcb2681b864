#!/usr/bin/env bash
# Usage: dev/demo.sh
#
# Starts the services of specs/ from scratch and prints how to use them.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_rust
use_engine
"${inside[@]}" dev/images.sh base
cargo build --locked

drillmaster=${CARGO_TARGET_DIR:-target}/debug/drillmaster
"${inside[@]}" "$drillmaster" up --specs specs
"${inside[@]}" "$drillmaster" status --specs specs

cat <<END

The demo is up.
  look at it      http://127.0.0.1:8080
  add a todo      curl -d title='Buy milk' http://127.0.0.1:8080/todos
  list them       curl http://127.0.0.1:8080/todos
  change a value  TODO_TITLE=Groceries $drillmaster diff
                  TODO_TITLE=Groceries $drillmaster up
  take it down    $drillmaster down             (the todos stay, in their volume)
                  $drillmaster down --volumes --images   (they go too, and what was built)
END
[[ $ENGINE != 26 ]] || echo "This is the engine 26; for these commands: export DOCKER_HOST=$DOCKER_HOST"
[[ ${#inside[@]} == 0 ]] || echo "This is the engine $ENGINE; begin these commands with: dev/engine-apart.sh $ENGINE enter"
