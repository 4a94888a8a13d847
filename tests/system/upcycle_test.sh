#!/usr/bin/env bash
# From dense to experts in small: train a dense model for some steps, make mixtures and larger models of it, see that they say
# the same, train them on, generate, export.
#   upcycle_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$source"

fail() { echo "FAILED: $*"; exit 1; }
quietly() { "$@" > "$folder/log" 2>&1 || { cat "$folder/log"; fail "$*"; }; }
tokens_of() {
  $moiety generate "$1" -p "The expert" -n 20 --greedy --ignore-eos --exact --json | node -e 'console.log(JSON.stringify(JSON.parse(require("fs").readFileSync(0)).tokens))'
}
same_text() { [[ $(tokens_of "$1") == "$(tokens_of "$2")" ]] || fail "$2 says something else than $1"; }
# says STATUS PATTERN COMMAND…: it ends so, with one line on stderr that the pattern fits.
says() {
  local wanted=$1 pattern=$2 status=0
  shift 2
  "$@" > /dev/null 2> "$folder/stderr" || status=$?
  [[ $status -eq $wanted ]] || { cat "$folder/stderr"; fail "status $status of $*"; }
  [[ $(wc -l < "$folder/stderr") -eq 1 ]] || { cat "$folder/stderr"; fail "more than a sentence from $*"; }
  grep -q -- "$pattern" "$folder/stderr" || { cat "$folder/stderr"; fail "another sentence from $*"; }
}

dense=$folder/dense
small=(--set model.qk_norm=none --set model.dense_layers=2 --set model.dense_hidden=48 --set train.steps=30 --set train.sequence=32 --set run.threads=1)
quietly $moiety train recipes/tiny.toml --set run.dir="$dense" "${small[@]}"
more=(recipes/tiny.toml --set train.steps=6 --set train.sequence=32 --set run.threads=1)

# Copies in parts, trained on; the same command finds the start and the run as they are.
upcycled=$folder/upcycled
twice() { $moiety finetune "${more[@]}" --set run.dir="$upcycled" --upcycle "$dense" --start "$folder/start" --copies 4 --parts 2 --json; }
twice > "$folder/first" 2> "$folder/stderr" || { cat "$folder/stderr"; fail "upcycling"; }
grep -q "8 experts of 24, 4 a token.*it computes what the model did" "$folder/stderr" || { cat "$folder/stderr"; fail "what it says of the start"; }
grep -q '"finished": true' "$folder/first" || fail "training on"
same_text "$dense" "$folder/start"
quietly twice
[[ $(find "$upcycled/checkpoints" -name 'step-*' | wc -l) -eq 1 ]] || fail "the same command trained again"
[[ $(tokens_of "$upcycled") == \[* ]] || fail "generating from what was trained"
quietly $moiety convert "$upcycled" "$folder/hf"
same_text "$upcycled" "$folder/hf"
says 1 "something else already" $moiety finetune --upcycle "$dense" --start "$folder/start" --copies 2

# Larger models; a GGUF file and a Hugging Face folder as sources.
quietly $moiety convert "$dense" "$folder/dense.gguf"
quietly $moiety convert "$dense" "$folder/dense-hf"
quietly $moiety finetune --upcycle "$folder/dense.gguf" --start "$folder/large" --grow-width 80 --grow-hidden 64 --grow-kv-heads 3 --grow-layers 3 --depth silent
same_text "$dense" "$folder/large"
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/large-run" --from "$folder/large"
quietly $moiety finetune --upcycle "$folder/dense-hf" --start "$folder/shared" --copies 2 --keep-dense --json
grep -q '"preserves":true' "$folder/log" || fail "what it says of a shared expert"
same_text "$dense" "$folder/shared"

# Going on with a Hugging Face folder, and with a bias that balances.
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/branch" --from "$folder/dense-hf" --set run.seed=2
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/biased" --from "$folder/start" --set balance.bias_rate=0.01

# Several models in one.
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/mixed" --upcycle "$dense" "$folder/branch" --start "$folder/mix"
[[ $(tokens_of "$folder/mixed") == \[* ]] || fail "generating from two models in one"

# By what hidden units do on texts.
quietly $moiety importance "$dense" --text docs/GLOSSARY.md --tokens 2000 --out "$folder/words.gguf"
quietly $moiety importance "$dense" --text src/moe --tokens 2000 --out "$folder/code.gguf"
split=(--statistics "$folder/words.gguf" --statistics "$folder/code.gguf" --expert-hidden 30)
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/split-run" --upcycle "$dense" --start "$folder/split" "${split[@]}"
[[ $(tokens_of "$folder/split-run") == \[* ]] || fail "generating from experts by domain"

# New experts beside old ones that stay; those that a trace has little use for left out.
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/more" --upcycle "$upcycled" --start "$folder/more-start" --add-experts 2 --set train.frozen_experts=8
[[ $(tokens_of "$folder/more") == \[* ]] || fail "generating with new experts"
quietly $moiety eval "$folder/more" --text docs/GLOSSARY.md --trace "$folder/more.trace"
quietly $moiety finetune --upcycle "$folder/more" --start "$folder/fewer" --drop-by "$folder/more.trace" --drop-below 0.8
grep -q "it does not compute what the model did" "$folder/log" || fail "what it says of fewer experts"
[[ $(stat -c %s "$folder/fewer/model.safetensors") -lt $(stat -c %s "$folder"/more/checkpoints/*/model.safetensors) ]] || fail "nothing was left out"
quietly $moiety finetune "${more[@]}" --set run.dir="$folder/fewer-run" --from "$folder/fewer"
[[ $(tokens_of "$folder/fewer-run") == \[* ]] || fail "generating with fewer experts"

# Mistakes.
says 1 "other layers or experts" $moiety finetune --upcycle "$upcycled" --start "$folder/x" --drop-by "$folder/more.trace"
says 1 "has no experts" $moiety finetune --upcycle "$dense" --start "$folder/x" --add-experts 1
says 1 "can't be divided into 5 experts" $moiety finetune --upcycle "$dense" --start "$folder/x" --parts 5
says 1 "don't fit each other" $moiety finetune --upcycle "$dense" "$folder/large" --start "$folder/x"
says 1 "has experts already" $moiety finetune --upcycle "$folder/start" --start "$folder/x" --copies 2
says 1 "no such file" $moiety finetune --upcycle "$folder/nothing" --start "$folder/x"
says 1 "more than the 8" $moiety finetune --upcycle "$dense" --start "$folder/x" --grow-width 8
says 2 "--start" $moiety finetune --upcycle "$dense"
says 2 "a model to begin with" $moiety finetune recipes/tiny.toml
[[ ! -e $folder/x ]] || fail "something was left of what went wrong"
echo "all say the same"
