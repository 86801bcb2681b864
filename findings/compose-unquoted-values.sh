#!/usr/bin/env bash
# Usage: findings/compose-unquoted-values.sh
#
# Assumption: a value of `environment` reaches the container as it is written.
# Behaviour: Compose reads it as YAML 1.1 and 1.2 mixed, and writes it again: versions lose
# their zeros, numbers become octal or get an exponent, a date is an error, while `yes` and
# `22:22` stay. Only quotes keep a value.
# (Debian: docker-compose 2.40.3)
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/compose.sh"
install_compose

cat >compose.yaml <<'YAML'
services:
  app:
    image: busybox
    environment:
      VERSION: 1.10
      MODE: 0750
      ACCOUNT: 0089
      SIZE: 100000000.0
      PRICE: 1_000
      ENABLED: yes
      SINCE: 22:22
      QUOTED: "1.10"
YAML
{
    config | jq -r '.services.app.environment | to_entries[] | "\(.key): \(.value)"'
    sed -i 's/SINCE: .*/SINCE: 2026-11-30/' compose.yaml
    { config || true; } | sed 's/.*compose.yaml: //'
} | tee actual.txt
expect <<'EXPECTED'
ACCOUNT: 89
ENABLED: yes
MODE: 488
PRICE: 1000
QUOTED: 1.10
SINCE: 22:22
SIZE: 1e+08
VERSION: 1.1
services.app.environment.SINCE invalid jsonType time.Time
EXPECTED
