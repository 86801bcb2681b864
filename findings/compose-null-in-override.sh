#!/usr/bin/env bash
# Usage: findings/compose-null-in-override.sh
#
# Assumption: a key without a value in an override file changes nothing, or is an error.
# Behaviour: each kind of field takes it in another way. `command:` removes the command,
# `ports:` keeps the ports, a label becomes empty, and a variable gets its value from the
# environment of the caller, or is removed.
# (Debian: docker-compose 2.40.3)
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/compose.sh"
install_compose

cat >compose.yaml <<'YAML'
services:
  app:
    image: busybox
    command: [sleep, "1000"]
    ports: ["80:80"]
    labels: {owner: shop}
    environment: {MODE: fast, USERS: "5"}
YAML
cat >override.yaml <<'YAML'
services:
  app:
    command:
    ports:
    labels: {owner: }
    environment: {MODE: , USERS: }
YAML
COMPOSE_FILE=compose.yaml:override.yaml MODE=slow config |
    jq -r '.services.app | "command: \(.command)", "ports: \(.ports | length)", "labels: \(.labels)", "environment: \(.environment)"' | tee actual.txt
expect <<'EXPECTED'
command: null
ports: 1
labels: {"owner":""}
environment: {"MODE":"slow","USERS":null}
EXPECTED
