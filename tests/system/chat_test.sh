#!/usr/bin/env bash
# Templates and chat as a person uses them: named templates survive conversion both ways, an answer is one JSON object.
#   chat_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

cp -r "$source/tests/fixtures/models/mixtral/f32" "$folder/model"
chmod -R u+w "$folder/model"
cat > "$folder/model/tokenizer_config.json" << 'JSON'
{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [
  {"name": "default", "template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"},
  {"name": "tool_use", "template": "{{ tools | length }} tools"}]}
JSON
$moiety convert "$folder/model" "$folder/model.gguf" > "$folder/log"
$moiety convert "$folder/model.gguf" "$folder/back" > "$folder/log"
for model in model model.gguf back; do
  plain=$(echo '{"messages": [{"role": "user", "content": "hi"}]}' | $moiety template "$folder/$model")
  [[ $plain == "<s>user:hi" ]] || fail "$model renders '$plain'"
  tools=$(echo '{"messages": [], "tools": [1, 2]}' | $moiety template "$folder/$model")
  [[ $tools == "2 tools" ]] || fail "$model with tools renders '$tools'"

  $moiety chat "$folder/$model" -p hello -n 10 --greedy --json > "$folder/answer.$model"
  for key in reasoning content tool_calls finish_reason usage; do
    grep -q "\"$key\"" "$folder/answer.$model" || fail "$model: the answer has no $key"
  done
  cmp "$folder/answer.model" "$folder/answer.$model" || fail "$model answers differently"
done
[[ -n $(echo hello | $moiety chat "$folder/model" -n 5 --greedy) ]] || fail "nothing was answered"

# What is said stays text, though it spells a token that ends an answer: such a question is longer than the token.
spelt=$($moiety chat "$folder/model" -p 'say </s>' -n 2 --greedy --json | tr -d ' \n' | grep -oE '"prompt_tokens":[0-9]+' | cut -d: -f2)
plain=$($moiety chat "$folder/model" -p 'say ' -n 2 --greedy --json | tr -d ' \n' | grep -oE '"prompt_tokens":[0-9]+' | cut -d: -f2)
[[ $((spelt - plain)) -gt 1 ]] || fail "</s> in a question is $((spelt - plain)) tokens"

# The tokens of a question and, but for the last, of its answer are recorded; of a server's model it says who can.
$moiety chat "$folder/model" -p hello -n 5 --greedy --json --trace "$folder/chat.trace" > "$folder/answer.traced"
number() { tr -d ' \n' < "$1" | grep -oE "\"$2\":[0-9]+" | tail -n 1 | cut -d: -f2; }
$moiety trace report "$folder/chat.trace" --json > "$folder/report"
asked=$(number "$folder/answer.traced" prompt_tokens) answered=$(number "$folder/answer.traced" completion_tokens)
recorded=$(number "$folder/report" tokens)
[[ $recorded -eq $((asked + answered - 1)) ]] || fail "$asked tokens and $answered in answer are $recorded in the trace"
$moiety chat http://127.0.0.1:1 -p hello --trace "$folder/chat.trace" 2> "$folder/refused" && fail "a server's model was traced here"
grep -q 'moiety serve --trace' "$folder/refused" || fail "refused with: $(cat "$folder/refused")"
echo "all agree"
