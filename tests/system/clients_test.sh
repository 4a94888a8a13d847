#!/usr/bin/env bash
# The clients that people have, as they come from npm, over `moiety serve` with a small model.
#   clients_test.sh MOIETY SOURCE_DIR NPM_DIR
set -euo pipefail
moiety=$1 source=$2 npm=$3
for package in openai @anthropic-ai/sdk @langchain/openai ai @ai-sdk/openai-compatible; do
  [[ -d $npm/node_modules/$package ]] || { echo "skipped: tests/fetch_npm.sh has not put $package into $npm"; exit 77; }
done

folder=$(mktemp -d)
server=
end() {
  [[ -z $server ]] || kill "$server" 2> /dev/null || true
  rm -rf "$folder"
}
trap end EXIT

cp -r "$source/tests/fixtures/models/mixtral/f32" "$folder/model"
chmod -R u+w "$folder/model"
sed -i -E 's/"max_position_embeddings": [0-9]+/"max_position_embeddings": 4096/' "$folder/model/config.json"
cat > "$folder/model/tokenizer_config.json" << 'JSON'
{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}{% for t in tools or [] %}<tools>{{ t | tojson }}</tools> answer with <tool_call>\n{\"name\": …, \"arguments\": …}\n</tool_call>\n{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}\n{% endfor %}"}
JSON

"$moiety" serve "$folder/model" --port 0 2> "$folder/log" &
server=$!
url=
for _ in {1..300}; do
  url=$(grep -oE 'is ready at http://127\.0\.0\.1:[0-9]+' "$folder/log" | grep -oE 'http.*' | head -n 1 || true)
  [[ -z $url ]] || break
  kill -0 "$server" 2> /dev/null || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
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

kill -TERM "$server"
wait "$server" || { echo "the server ended with status $?"; exit 1; }
server=
