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
models=$source/tests/fixtures/models
node "$source/tests/parity/llama_cpp.mjs" "$moiety" "$npm" "${@:4}" \
  "$models"/{mixtral,qwen3_moe}/f32 "$models"/{olmoe,qwen2_moe,deepseek_v3,granitemoe,llama}/bf16
