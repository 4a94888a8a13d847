#!/usr/bin/env bash
# The clients that people have, as they come from npm, over `moiety serve` with a small model.
#   clients_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2 npm=$3
for package in openai @anthropic-ai/sdk @langchain/openai ai @ai-sdk/openai-compatible; do
  [[ -d $npm/node_modules/$package ]] || { echo "skipped: tests/fetch_npm.sh has not put $package into $npm"; exit 77; }
done

source "$source/tests/system/serve.bash"
make_model "$source" 4096 << 'JSON'
{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}{% for t in tools or [] %}<tools>{{ t | tojson }}</tools> answer with <tool_call>\n{\"name\": …, \"arguments\": …}\n</tool_call>\n{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}\n{% endfor %}"}
JSON

start_server "$moiety"
timeout 240 node "$source/tests/system/clients_test.mjs" "$url" "$npm" || { tail -n 20 "$folder/log"; exit 1; }
# Our own client: alike with a model here and on a server; what the server refuses is a sentence.
fail() { echo "FAILED: $*"; exit 1; }
here=$("$moiety" chat "$folder/model" -p "Who is there?" -n 12 --greedy --json)
there=$("$moiety" chat "$url" -p "Who is there?" -n 12 --greedy --json)
text_of() { sed -E 's/.*"content":"(([^"\\]|\\.)*)".*/\1/' <<< "$1"; }
[[ $(text_of "$here") == "$(text_of "$there")" ]] || fail "chat here says $here, there $there"
status=0
"$moiety" chat "$url" -p x --top-p 0.5 --temperature 1 --set continue_final_message='"x"' > /dev/null 2> "$folder/err" || status=$?
[[ $status -le 1 && $(wc -l < "$folder/err") -le 1 ]] || fail "chat had status $status: $(< "$folder/err")"
status=0
"$moiety" chat http://127.0.0.1:1 -p x > /dev/null 2> "$folder/err" || status=$?
[[ $status == 1 ]] && grep -q "refused" "$folder/err" || fail "a server that is not there: status $status, $(< "$folder/err")"
status=0
"$moiety" chat http:// -p x > /dev/null 2> "$folder/err" || status=$?
[[ $status == 2 ]] || fail "no address: status $status, $(< "$folder/err")"

stop_server
