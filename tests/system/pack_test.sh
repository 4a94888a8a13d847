#!/usr/bin/env bash
# moiety pack: the same tokens from both files, damage that is found, nothing left where writing fails, sentences of wrong use.
#   pack_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "FAILED: $*"
  exit 1
}
# Exit status and the one sentence on stderr.
refuses() {
  local status=$1 sentence=$2
  shift 2
  set +e
  "$@" > /dev/null 2> "$folder/error"
  local found=$?
  set -e
  [[ $found == "$status" ]] || fail "$*: exit status $found, expected $status: $(cat "$folder/error")"
  [[ $(wc -l < "$folder/error") == 1 ]] || fail "$*: more than a sentence: $(cat "$folder/error")"
  grep -qF -- "$sentence" "$folder/error" || fail "$*: $(cat "$folder/error")"
}
tokens_of() { "$moiety" generate "$@" --tokens 1,5,9,13,2,7 -n 24 --greedy 2> /dev/null; }
answer_of() { "$moiety" generate "$@" -p "the quick" -n 12 --greedy 2> /dev/null; }

# The same tokens, text and all, from a folder, a GGUF file and a synthetic model with blocks of 256
models=("$source/tests/fixtures/models/olmoe/bf16" "$source/tests/fixtures/models/gpt_oss_mxfp4/mxfp4")
"$moiety" quantize "${models[0]}" "$folder/q8.gguf" --type Q8_0 > /dev/null 2>&1
"$moiety" bench --synthetic olmoe-1b-7b --layers 1 --type q4_k --save "$folder/synthetic.gguf" > /dev/null 2>&1
models+=("$folder/q8.gguf" "$folder/synthetic.gguf")
for model in "${models[@]}"; do
  "$moiety" pack "$model" "$folder/packed.gguf" > "$folder/out" 2> /dev/null
  grep -q "experts" "$folder/out" || fail "pack says nothing of what it wrote: $(cat "$folder/out")"
  [[ $(tokens_of "$folder/packed.gguf") == "$(tokens_of "$model")" ]] || fail "$model: other tokens when packed"
  "$moiety" pack --verify "$folder/packed.gguf" > /dev/null 2>&1 || fail "$model: --verify"
done
"$moiety" pack "${models[0]}" "$folder/packed.gguf" > /dev/null 2>&1
[[ $(answer_of "$folder/packed.gguf") == "$(answer_of "${models[0]}")" ]] || fail "another text when packed"

# Planes: the same tokens; low precision is the upper one, and what was read of it is not read again
"$moiety" pack "$folder/q8.gguf" "$folder/planes.gguf" --planes > "$folder/out" 2> /dev/null
grep -q "Q8_0_UPPER" "$folder/out" || fail "pack says nothing of planes: $(cat "$folder/out")"
[[ $(tokens_of "$folder/planes.gguf") == "$(tokens_of "$folder/q8.gguf")" ]] || fail "other tokens in planes"
"$moiety" pack --verify "$folder/planes.gguf" > /dev/null 2>&1 || fail "planes: --verify"
"$moiety" inspect "$folder/planes.gguf" > "$folder/out"
grep -q "Q8_0_UPPER" "$folder/out" || fail "inspect says nothing of planes"
refuses 1 "only Q8_0 has planes" "$moiety" pack "${models[0]}" "$folder/x.gguf" --planes
refuses 2 "--low" "$moiety" pack "$folder/q8.gguf" "$folder/x.gguf" --planes --low q4_0

# Types by expert, a second copy
"$moiety" pack "${models[0]}" "$folder/mixed.gguf" --tensor 'blk\.0\.ffn_.*\.1=q8_0' --low q4_0 --json > "$folder/mixed.json" 2> /dev/null
"$moiety" inspect "$folder/mixed.gguf" --json > "$folder/inspect.json"
python3 - "$folder/mixed.json" "$folder/inspect.json" << 'END'
import json, os, sys
mixed, found = (json.load(open(name)) for name in sys.argv[1:])
assert mixed["bytes"] == os.path.getsize(mixed["out"]), mixed
assert set(mixed["bytes_by_type"]) == {"BF16", "Q8_0"} and set(mixed["low_bytes_by_type"]) == {"Q4_0"}, mixed
names = [t["name"] for t in found["tensors"]]
first = names.index("blk.0.ffn_gate.0.packed")
assert names[first:first + 7] == [f"blk.0.ffn_{m}.0.{c}" for c in ("packed", "low") for m in ("gate", "up", "down")] + ["blk.0.ffn_gate.1.packed"], names
types = found["metadata"]["moiety.pack.types"]
assert types[:6] == [30, 30, 30, 8, 8, 8] and types.count(8) == 3, types
assert set(found["packed_experts"]) == {"BF16", "Q8_0"} and set(found["low_experts"]) == {"Q4_0"}, found.keys()
assert mixed["slabs"] == 2 * len(types), (mixed, types)
END
[[ -n $(tokens_of "$folder/mixed.gguf") ]] || fail "a file with two copies does not run"

# A flipped bit is found and named
python3 - "$folder/packed.gguf" << 'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(-4096 * 3, 2)
    byte = file.read(1)[0]
    file.seek(-1, 1)
    file.write(bytes([byte ^ 4]))
END
refuses 1 "is not what was written (its checksum differs)" "$moiety" pack --verify "$folder/packed.gguf"
grep -q "blk\.[0-9]*\.ffn_[a-z]*\.[0-9]*\.packed" "$folder/error" || fail "which slab? $(cat "$folder/error")"

# Commands that want rows say what to do
for command in "convert $folder/mixed.gguf $folder/x.gguf" "quantize $folder/mixed.gguf $folder/x.gguf --type Q4_0" \
  "generate $folder/mixed.gguf --tokens 1,2 -n 2 --exact"; do
  # shellcheck disable=SC2086
  refuses 1 "use the file that it was packed from" "$moiety" $command
done
refuses 1 "it is packed already" "$moiety" pack "$folder/mixed.gguf" "$folder/x.gguf"
refuses 1 "has no experts to pack" "$moiety" pack "$source/tests/fixtures/models/llama/bf16" "$folder/x.gguf"
refuses 1 "not a packed file" "$moiety" pack --verify "$folder/q8.gguf"
refuses 1 "MODEL and OUT are the same" "$moiety" pack "$folder/q8.gguf" "$folder/q8.gguf"
refuses 2 "name it something.gguf" "$moiety" pack "${models[0]}" "$folder/x"
refuses 2 "no expert's matrix has a name like that" "$moiety" pack "${models[0]}" "$folder/x.gguf" --tensor 'blk\.99=q8_0'
refuses 2 "--low: Q9 is none of" "$moiety" pack "${models[0]}" "$folder/x.gguf" --low q9
[[ ! -e $folder/x.gguf ]] || fail "a command that failed left a file"

# A place that can't be written, a disk that is full (a limit on the size of files is as good): nothing is left
refuses 1 "cannot create" "$moiety" pack "${models[0]}" "$folder/none/x.gguf"
before=$(ls "$folder")
if (trap '' XFSZ && ulimit -f 40 && "$moiety" pack "${models[0]}" "$folder/full.gguf" > /dev/null 2>&1); then fail "wrote past the limit"; fi
[[ $(ls "$folder") == "$before" ]] || fail "something was left: $(ls "$folder")"
