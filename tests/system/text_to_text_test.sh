#!/usr/bin/env bash
# From text to text in small: train, generate from the checkpoint, export, and get the same text from what was exported;
# and, where llama.cpp is here, the same tokens from it.
#   text_to_text_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2 npm=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$source"

fail() { echo "FAILED: $*"; exit 1; }

# One model a standard architecture that training can end in.
declare -A settings=(
  [Qwen3MoeForCausalLM]='model.qk_norm="per_head"'
  [MixtralForCausalLM]='model.qk_norm="none"'
  [OlmoeForCausalLM]='model.qk_norm="whole" model.kv_heads=4 model.renormalise=false'
  [Qwen2MoeForCausalLM]='model.qk_norm="none" model.renormalise=false model.shared_hidden=64 model.shared_gate=true'
  [Glm4MoeForCausalLM]='model.score="sigmoid" model.shared_hidden=64 balance.bias_rate=0.01 model.dense_layers=1'
  [MiniMaxM2ForCausalLM]='model.score="sigmoid" model.qk_norm="whole" balance.bias_rate=0.01'
)
runs=()
for architecture in "${!settings[@]}"; do
  run=$folder/$architecture
  sets=()
  for setting in ${settings[$architecture]}; do sets+=(--set "$setting"); done
  $moiety train recipes/tiny.toml --set "run.dir=\"$run\"" "${sets[@]}" \
    > "$folder/log" 2>&1 || { cat "$folder/log"; fail "training for $architecture"; }
  $moiety convert "$run" "$folder/hf" | grep -q "$architecture" || fail "$run was not exported as $architecture"
  $moiety convert "$run" "$folder/model.gguf"
  $moiety convert "$folder/model.gguf" "$folder/back" > /dev/null
  for model in "$run" "$folder/hf" "$folder/model.gguf" "$folder/back"; do
    $moiety generate "$model" -p "The expert" -n 30 --greedy --ignore-eos --json \
      | node -e 'const j=JSON.parse(require("fs").readFileSync(0));console.log(JSON.stringify([j.tokens,j.text]))' \
      > "$folder/text.$(basename "$model")"
    cmp "$folder/text.$(basename "$run")" "$folder/text.$(basename "$model")" || fail "$model continues the text differently"
  done
  rm -r "$folder/hf" "$folder/back"
  runs+=("$run")
done

$moiety eval "${runs[0]}" --text docs/GLOSSARY.md --xz --chart "$folder/chart.svg" --json \
  | grep -q '"bits_per_byte"' || fail "eval"
grep -q '</svg>' "$folder/chart.svg" || fail "the chart"
$moiety inspect "$folder/MixtralForCausalLM" --routing "$folder/routing.svg" > /dev/null
# A panel each of what training and held-out text say, a line a layer.
[[ $(grep -c '<polyline' "$folder/routing.svg") -eq 12 ]] || fail "the chart of the routing: $(grep -c '<polyline' "$folder/routing.svg") lines"

if "$source/tests/system/llama_cpp_test.sh" "$moiety" "$source" "$npm" "${runs[@]}"; then
  echo "all agree"
else
  status=$?
  [[ $status -eq 77 ]] || fail "llama.cpp computes something else"
fi
