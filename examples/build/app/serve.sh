#!/bin/sh
echo "serving $(cat /greeting)"
exec sleep infinity
