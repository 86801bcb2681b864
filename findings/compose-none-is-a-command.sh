#!/usr/bin/env bash
# Usage: findings/compose-none-is-a-command.sh
#
# Assumption: `test: NONE` switches the health check of the image off, like HEALTHCHECK NONE.
# Behaviour: as a string it is a command of the shell, which fails in every check, so that
# the container becomes unhealthy. Only the list ["NONE"] and `disable: true` switch it off.
# (Debian: docker-compose 2.40.3)
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/compose.sh"
install_compose

test_of() {
    printf 'services: {app: {image: busybox, healthcheck: {%s}}}\n' "$1" >compose.yaml
    echo "$1 -> $(config | jq -c .services.app.healthcheck)"
}
{
    test_of 'test: NONE'
    test_of 'test: [NONE]'
    test_of 'disable: true'
} | tee actual.txt
expect <<'EXPECTED'
test: NONE -> {"test":["CMD-SHELL","NONE"]}
test: [NONE] -> {"test":["NONE"]}
disable: true -> {"disable":true}
EXPECTED
