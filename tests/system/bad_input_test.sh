#!/usr/bin/env bash
# What a person can get wrong at the command line: one sentence on stderr and the right exit status, never a crash.
#   bad_input_test.sh MOIETY SOURCE_DIR
set -uo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
model=$source/tests/fixtures/models/mixtral/f32
failures=0

# expect STATUS PATTERN COMMAND…: one line on stderr that matches, nothing written to stdout.
expect() {
  local status=$1 pattern=$2
  shift 2
  "$@" > "$folder/out" 2> "$folder/err" < /dev/null
  local found=$?
  if [[ $found -ne $status ]] || ! grep -qE -- "$pattern" "$folder/err" || [[ $(wc -l < "$folder/err") -ne 1 ]]; then
    echo "FAILED: $*"
    echo "  exit status $found, expected $status; stderr, expected one line like /$pattern/:"
    sed 's/^/  /' "$folder/err"
    failures=$((failures + 1))
  fi
}

broken() {  # broken NAME: a copy of the model to break
  cp -r "$model" "$folder/$1"
  chmod -R u+w "$folder/$1"
  echo "$folder/$1"
}

# Wrong use: 2
expect 2 'there is no command "sing"' $moiety sing
expect 2 'generate: MODEL is required' $moiety generate
expect 2 'moiety generate.*--frobnicate' $moiety generate $model --frobnicate
expect 2 'temperature must be' $moiety generate $model -p x --temperature -1
expect 2 'tokens 1,,2: expected token ids' $moiety generate $model --tokens 1,,2
expect 2 'kernels "abacus" are not available' $moiety generate $model -p x --kernels abacus
expect 2 '--type q3: expected' $moiety convert $model $folder/x.gguf --type q3
expect 2 '--type Q9: expected one of F32' $moiety quantize $model $folder/x.gguf --type Q9
expect 2 'name it something.gguf' $moiety quantize $model $folder/x --type Q8_0
expect 2 'expected PATTERN=TYPE' $moiety quantize $model $folder/x.gguf --type Q8_0 --tensor ffn_down
expect 2 'is no regular expression' $moiety quantize $model $folder/x.gguf --type Q8_0 --tensor '(=Q4_0'
expect 2 'no matrix has a name like that' $moiety quantize $model $folder/x.gguf --type Q8_0 --tensor fnn_down=Q4_0
expect 1 'importance matrix' $moiety quantize $model $folder/x.gguf --type Q8_0 --importance $model/config.json
expect 1 'is not imatrix' $moiety quantize $model $folder/x.gguf --type Q8_0 --importance $source/fuzz/corpus/gguf/kinds.gguf
expect 1 'has 6 sums and 2 counts, the model.s tensor 4 matrices' $moiety quantize $model $folder/x.gguf --type Q8_0 --importance $source/fuzz/corpus/importance/two.gguf
expect 1 'no such file|cannot open|No such file' $moiety eval $model --text $model/config.json --kl $folder/nowhere
expect 2 'MOIETY_THREADS=none' env MOIETY_THREADS=none $moiety generate $model -p x
expect 2 'no such shape; these are: olmoe-1b-7b' $moiety bench --synthetic hexagon
expect 2 'name a MODEL or a shape' $moiety bench
expect 2 'routing are of --synthetic' $moiety bench $model --routing skewed
expect 2 'save-tokens is for runs at depth 0' $moiety bench $model --depth 8 --save-tokens $folder/x.txt
expect 2 'disk-rate fast: expected an amount' $moiety bench $model --disk-rate fast
expect 2 'qwen3-30b-a3b has 48' $moiety bench --synthetic qwen3-30b-a3b --layers 49

# Wrong input: 1
expect 1 'do not fit the model.s context of 512' $moiety bench $model --depth 510 --prompt 8
expect 1 'no such file or folder' $moiety generate $folder/none -p x
expect 1 'token 999999 is not in the .* vocabulary of 431' $moiety generate $model --tokens 999999
expect 1 'the prompt has no tokens' $moiety generate $model --tokens ''
expect 1 'context holds 512' $moiety logits $model --tokens "$(seq -s, 1 400),$(seq -s, 1 200)" --out $folder/x.npy
expect 1 'no such file|cannot open' $moiety eval $model --text $folder/none
expect 1 'line 2' bash -c "printf '\"ok\"\n{oops\n' | $moiety tokenize $model > /dev/null"
expect 1 'IN and OUT are the same' $moiety convert $model $model
expect 1 'cannot create' $moiety logits $model --tokens 1 --out /proc/nowhere/x.npy

# Chat templates
printf '{{ messages[0].content' > $folder/open.jinja
expect 1 "open.jinja, line 1: the template has a syntax error: '\{\{' is not closed" $moiety template $folder/open.jinja
printf 'a\n{{ messages[0].content }}' > $folder/undefined.jinja
expect 1 "undefined.jinja, line 2: the template fails: 'messages' is undefined" bash -c "echo '{}' | $moiety template $folder/undefined.jinja"
printf '{{ raise_exception("no system") }}' > $folder/refuses.jinja
expect 1 'line 1: the template refuses: no system' bash -c "echo '{}' | $moiety template $folder/refuses.jinja"
printf '{%% for i in range(90000) %%}{%% for j in range(90000) %%}{%% endfor %%}{%% endfor %%}' > $folder/endless.jinja
expect 1 'line 1: the template is stopped' bash -c "echo '{}' | $moiety template $folder/endless.jinja"
expect 1 'standard input: not valid JSON' bash -c "echo '{' | $moiety template $model"
expect 1 'standard input: expected a JSON object' bash -c "echo '[]' | $moiety template $model"
expect 1 '"noon" is no time' bash -c "echo '{}' | $moiety template $model --now noon"
m=$(broken no_template); sed -i 's/"chat_template"/"no_template"/' "$m/tokenizer_config.json"
expect 1 'comes without a chat template; moiety generate' $moiety chat "$m" -p x

# Broken models
m=$(broken truncated); truncate -s 100000 "$m/model.safetensors"
expect 1 'lie outside the' $moiety generate "$m" -p x
m=$(broken empty); : > "$m/model.safetensors"
expect 1 'not a safetensors file' $moiety generate "$m" -p x
m=$(broken no_config); rm "$m/config.json"
expect 1 'neither a Hugging Face folder' $moiety generate "$m" -p x
m=$(broken bad_config); echo '{"model_type": "mixtral"' > "$m/config.json"
expect 1 'not valid JSON' $moiety generate "$m" -p x
m=$(broken deep_config); printf '[%.0s' $(seq 200000) > "$m/config.json"
expect 1 'nested deeper' $moiety generate "$m" -p x
m=$(broken absurd); sed -i 's/"num_local_experts": 4/"num_local_experts": 400000000/' "$m/config.json"
expect 1 'num_local_experts' $moiety generate "$m" -p x
m=$(broken tokenizer); echo '{"model": {"type": "BPE", "vocab": [], "merges": {}}}' > "$m/tokenizer.json"
expect 1 'tokenizer.json' $moiety generate "$m" -p x
m=$(broken deep_tokenizer); printf '[%.0s' $(seq 200000) > "$m/tokenizer.json"
expect 1 'tokenizer.json' $moiety tokenize "$m"

# A NaN in an expert shows only when the expert is visited, and is then traced to its tensor. The last kilobyte of the file
# is part of some weight.
m=$(broken nan)
size=$(stat -c %s "$m/model.safetensors")
for i in $(seq 0 255); do printf '\x00\x00\xc0\x7f'; done | dd of="$m/model.safetensors" bs=1 seek=$((size - 1024)) conv=notrunc status=none
expect 1 'holds a NaN or an infinity; the model is broken' $moiety generate "$m" --tokens "$(seq -s, 3 100)"
expect 1 'holds a NaN or an infinity; the model is broken' $moiety convert "$m" $folder/nan.gguf
[[ ! -e $folder/nan.gguf ]] || { echo "FAILED: a half-written nan.gguf was left"; failures=$((failures + 1)); }

# GGUF
$moiety convert $model $folder/good.gguf > /dev/null || failures=$((failures + 1))
head -c 200000 $folder/good.gguf > $folder/cut.gguf
expect 1 'past the end of the file' $moiety generate $folder/cut.gguf -p x
echo nonsense > $folder/bad.gguf
expect 1 'not a GGUF file' $moiety generate $folder/bad.gguf -p x
expect 1 'not a GGUF file' $moiety inspect $folder/bad.gguf

# Training configs; only where the trainer was built
if [[ -x $(dirname "$moiety")/moiety-train ]]; then
  echo 'x = [' > $folder/bad.toml
  expect 1 'bad.toml' $moiety train $folder/bad.toml
  printf '[run]\ndir = "x"\n[model]\nlayerz = 3\n' > $folder/key.toml
  expect 1 'layerz.*line 4|line 4.*layerz|:4.*layerz' $moiety train $folder/key.toml
  printf '[model]\nlayers = "three"\n' > $folder/type.toml
  expect 1 'layers' $moiety train $folder/type.toml
  expect 1 'none.toml' $moiety train $folder/none.toml
fi

[[ $failures -eq 0 ]] && echo "every mistake got its sentence"
exit $((failures > 0))
