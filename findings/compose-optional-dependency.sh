#!/usr/bin/env bash
# Usage: findings/compose-optional-dependency.sh
#
# Assumption: `required: false` makes a dependency optional, so that it may be missing.
# Behaviour: it may be in a profile that is not active, but not be missing: in a file without
# that service, as when files are combined, the project is invalid.
# (Debian: docker-compose 2.40.3)
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/compose.sh"
install_compose

project() {
    cat >compose.yaml <<YAML
services:
  app: {image: busybox, depends_on: {cache: {condition: service_started, required: $1}}}
$2
YAML
    config | jq -r '"valid, services: " + (.services | keys | join(" "))' 2>/dev/null || config
}
{
    echo "in a profile that is not active, required: true: $(project true '  cache: {image: busybox, profiles: [cache]}')"
    echo "in a profile that is not active, required: false: $(project false '  cache: {image: busybox, profiles: [cache]}')"
    echo "missing, required: false: $(project false '')"
} | tee actual.txt
expect <<'EXPECTED'
in a profile that is not active, required: true: service "app" depends on undefined service "cache": invalid compose project
in a profile that is not active, required: false: valid, services: app
missing, required: false: service "app" depends on undefined service "cache": invalid compose project
EXPECTED
