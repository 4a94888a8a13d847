#!/usr/bin/env bash
# The fixtures' models, converted by us, in the real llama.cpp.
#   llama_cpp_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2 npm=$3
if ! node -e 'process.exit(+process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2> /dev/null; then
  echo "skipped: node 20 or newer is not here"
  exit 77
fi
if [[ ! -d $npm/node_modules/node-llama-cpp ]]; then
  echo "skipped: $npm has no node-llama-cpp (tests/fetch_npm.sh puts it there)"
  exit 77
fi
node "$source/tests/parity/llama_cpp.mjs" "$moiety" "$npm" "${@:4}" \
  "$source"/tests/fixtures/models/{mixtral,olmoe,qwen3_moe,qwen2_moe}/f32
