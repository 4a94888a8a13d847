#!/usr/bin/env bash
# A run that is killed, whose checkpoints are torn and whose disk gets full ends with the losses and weights of one that nobody disturbed.
#   disk_test.sh MOIETY SOURCE_DIR
set -euo pipefail
kinds=kill,torn
if [ "$(id -u)" = 0 ] || unshare -rm true 2> /dev/null; then kinds+=,full; fi
exec timeout 300 python3 "$2/benchmarks/disk_chaos.py" "$1" --cycles 9 --ranks 2 --kinds $kinds
