#!/bin/sh
# A very small database: it loads for a second, and answers `state` and `user NAME` on a port.
(sleep 1; echo ready > /tmp/state) &
echo loading > /tmp/state
exec nc -ll -p "$1" -e sh /db/answer.sh
