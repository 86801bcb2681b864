#!/bin/sh
# Hooks on the host run in the spec directory. These variables describe the event; a hook of the group has
# DRILLMASTER_SERVICES and DRILLMASTER_FAILED in place of a service and its container.
if [ -n "$DRILLMASTER_SERVICE" ]; then
    echo "$DRILLMASTER_EVENT of $DRILLMASTER_SERVICE in $DRILLMASTER_GROUP"
else
    # shellcheck disable=SC2153 # set by drillmaster
    echo "$DRILLMASTER_EVENT of $DRILLMASTER_GROUP has finished: $DRILLMASTER_SERVICES"
fi
