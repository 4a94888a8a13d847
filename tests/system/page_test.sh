#!/usr/bin/env bash
# The web page in headless Chromium, over `moiety serve` with a small model; and once more with a server that asks for a key.
#   page_test.sh MOIETY SOURCE_DIR NPM_DIR      MOIETY_SCREENSHOTS=FOLDER leaves pictures there
set -euo pipefail
moiety=$1 source=$2 npm=$3
skip() { echo "skipped: $*"; exit 77; }
[[ -x /usr/bin/chromium ]] || skip "there is no /usr/bin/chromium"
[[ -d $npm/node_modules/playwright-core && -d $npm/node_modules/axe-core ]] || skip "tests/fetch_npm.sh has not put playwright-core and axe-core into $npm"
[[ -f $source/build/web/page.html ]] || skip "web/build.sh has not bundled the page"

folder=$(mktemp -d)
server=
end() {
  [[ -z $server ]] || kill "$server" 2> /dev/null || true
  rm -rf "$folder"
}
trap end EXIT

# A small model that has room for answers long enough to be stopped, and nothing to end them with.
cp -r "$source/tests/fixtures/models/mixtral/f32" "$folder/model"
chmod -R u+w "$folder/model"
sed -i -E 's/"max_position_embeddings": [0-9]+/"max_position_embeddings": 65536/; /"eos_token_id"/d' "$folder/model/config.json"
cat > "$folder/model/tokenizer_config.json" << 'JSON'
{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"}
JSON

# try KEY OPTION…: the browser's tests over a server with these options.
try() {
  local key=$1
  shift
  rm -f "$folder/err"
  "$moiety" serve "$folder/model" --port 0 --context 65536 --cache-tokens 131072 "$@" 2> "$folder/err" &
  server=$!
  local url=
  for _ in {1..300}; do
    url=$(grep -oE 'is ready at http://127\.0\.0\.1:[0-9]+' "$folder/err" 2> /dev/null | grep -oE 'http.*' | head -n 1 || true)
    [[ -z $url ]] || break
    kill -0 "$server" 2> /dev/null || { cat "$folder/err"; exit 1; }
    sleep 0.1
  done
  [[ -n $url ]] || { echo "the server has not said where it listens"; cat "$folder/err"; exit 1; }
  timeout 240 node "$source/tests/system/page_test.mjs" "$url/" "$npm" ${key:+"$key"} || { tail -n 20 "$folder/err"; exit 1; }
  # A page that watches does not keep the server from ending.
  kill -TERM "$server"
  wait "$server" || { echo "the server ended with status $?"; exit 1; }
  server=
}

try ""
echo "tester secret-of-the-page" > "$folder/keys"
chmod 600 "$folder/keys"
try secret-of-the-page --keys "$folder/keys"
