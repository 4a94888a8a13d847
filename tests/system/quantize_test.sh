#!/usr/bin/env bash
# Whole models through quantize, importance and eval --kl: every type and mix loads, runs, and fewer bits are further away.
#   quantize_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2 npm=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fixtures=${MOIETY_FIXTURES:-$source/../shared/fixtures}
models=("$source/tests/fixtures/models/olmoe/bf16")
# Rows of 256, which K types need; in the larger set of fixtures only.
if [[ -d $fixtures/models/mixtral_k256/bf16 ]]; then models+=("$fixtures/models/mixtral_k256/bf16"); fi
text=$folder/text.txt
for i in $(seq 40); do echo "the $i quick foxes jumped over $((i * i)) lazy dogs and then they sat down to rest"; done > "$text"

fail() {
  echo "FAILED: $*"
  exit 1
}
number() { python3 -c 'import json,sys; x = json.load(sys.stdin)
for key in sys.argv[1].split("."): x = x[int(key) if key.isdigit() else key]
print(x)' "$1"; }
less() { python3 -c 'import sys; sys.exit(0 if float(sys.argv[1]) < float(sys.argv[2]) else 1)' "$1" "$2"; }
kl_of() { "$moiety" eval "$1" --text "$text" --exact --kl "$2" --json 2> /dev/null | number texts.0.kl.mean; }

for model in "${models[@]}"; do
  echo "$model"
  rm -f "$folder"/*.gguf
  # Every type and mix: what is written has the size that was announced, and says what it is.
  for type in F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_K Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_K Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4_MOE MXFP4 \
    Q3_K_L Q3_K_M Q3_K_S Q3_K Q2_K; do
    "$moiety" quantize "$model" "$folder/$type.gguf" --type "$type" --dry-run --json > "$folder/plan.json"
    [[ ! -e $folder/$type.gguf ]] || fail "--dry-run wrote a file"
    "$moiety" quantize "$model" "$folder/$type.gguf" --type "$type" 2> /dev/null > /dev/null
    planned=$(number bytes < "$folder/plan.json") size=$(stat -c %s "$folder/$type.gguf")
    less "$planned" "$size" || fail "$type: $size bytes, $planned of tensors were announced"
    less "$size" $((planned + 100000)) || fail "$type: $size bytes, $planned of tensors were announced"
    "$moiety" generate "$folder/$type.gguf" --tokens 1,5,9 -n 4 --greedy > /dev/null 2>&1 || fail "$type does not run"
  done

  # Fewer bits are further away. Random weights: only types far apart are told apart for certain.
  last=-1 last_type=""
  for type in F32 Q8_0 Q5_0 MXFP4; do
    kl=$(kl_of "$folder/$type.gguf" "$model")
    echo "  $type: KL $kl"
    less "$last" "$kl" || [[ $type == F32 ]] || fail "KL of $type is $kl, of $last_type $last"
    last=$kl last_type=$type
  done
  if [[ $model == *k256* ]]; then
    last=-1
    for type in F32 Q6_K Q5_K Q4_K Q3_K Q2_K; do
      kl=$(kl_of "$folder/$type.gguf" "$model")
      echo "  $type: KL $kl"
      less "$last" "$kl" || [[ $type == F32 ]] || fail "KL of $type is $kl, of the type before $last"
      last=$kl
    done
  fi
done
model=${models[-1]}

# Saved predictions say the same as the model.
"$moiety" eval "$model" --text "$text" --exact --save-logits "$folder/saved" > /dev/null 2>&1
live=$(kl_of "$folder/Q4_0.gguf" "$model") saved=$(kl_of "$folder/Q4_0.gguf" "$folder/saved")
less "$(python3 -c "print(abs($live - $saved))")" 1e-4 || fail "KL against the model $live, against what was saved $saved"

# Importance: written, read, of use; patterns.
"$moiety" importance "$model" --text "$text" --out "$folder/importance.gguf" > /dev/null 2>&1
"$moiety" quantize "$model" "$folder/with.gguf" --type Q4_0 --importance "$folder/importance.gguf" > /dev/null 2>&1
with=$(kl_of "$folder/with.gguf" "$model")
echo "  Q4_0: KL $live, with importance $with"
cmp -s "$folder/with.gguf" "$folder/Q4_0.gguf" && fail "importance changed nothing"
"$moiety" quantize "$model" "$folder/p.gguf" --type Q8_0 --tensor 'ffn_down_exps=Q4_1' --tensor 'blk\.0\.=Q5_1' --json 2> /dev/null > "$folder/p.json"
python3 - "$folder/p.json" << 'END' || fail "--tensor"
import json, sys
to = {t["name"]: t["to"] for t in json.load(open(sys.argv[1]))["tensors"]}
assert to["blk.0.ffn_down_exps.weight"] == "Q5_1" and to["blk.1.ffn_down_exps.weight"] == "Q4_1", to
assert to["blk.0.ffn_gate_inp.weight"] == "F32" and to["blk.1.attn_q.weight"] == "Q8_0", to
END

# Against the real ggml and llama.cpp, where they are.
library=$(find "$npm/node_modules/@node-llama-cpp" -name libggml-base.so 2> /dev/null | head -1 || true)
if [[ -n $library ]]; then
  "$(dirname "$moiety")/ggml_blocks" "$library" > "$folder/blocks.txt" || { cat "$folder/blocks.txt"; fail "ggml_blocks"; }
  echo "blocks: read as ggml reads them, written no worse than ggml writes them"
else
  echo "skipped the comparison with ggml: no libggml-base.so under $npm"
fi
if node -e 'process.exit(+process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2> /dev/null && [[ -d $npm/node_modules/node-llama-cpp ]]; then
  node "$source/tests/parity/llama_cpp.mjs" "$moiety" "$npm" "$folder"/{Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0,IQ4_NL,IQ4_XS,Q3_K_M,Q2_K,MXFP4_MOE}.gguf
fi
echo "quantised models load, run and are as far away as they should be"
