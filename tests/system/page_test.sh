#!/usr/bin/env bash
# The web page in headless Chromium, over `moiety serve` with a small model; and once more with a server that asks for a key.
#   page_test.sh MOIETY SOURCE_DIR NPM_DIR      MOIETY_SCREENSHOTS=FOLDER leaves pictures there
set -euo pipefail
moiety=$1 source=$2 npm=$3
skip() { echo "skipped: $*"; exit 77; }
[[ -x /usr/bin/chromium ]] || skip "there is no /usr/bin/chromium"
[[ -d $npm/node_modules/playwright-core && -d $npm/node_modules/axe-core ]] || skip "tests/fetch_npm.sh has not put playwright-core and axe-core into $npm"
[[ -f $source/build/web/page.html ]] || skip "web/build.sh has not bundled the page"

source "$source/tests/system/serve.bash"

# A small model that has room for answers long enough to be stopped, and nothing to end them with.
make_model "$source" 150000 << 'JSON'
{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"}
JSON
sed -i '/"eos_token_id"/d' "$folder/model/config.json"

# try KEY OPTION…: the browser's tests over a server with these options.
try() {
  local key=$1
  shift
  start_server "$moiety" --context 150000 --cache-tokens 260000 "$@"
  timeout 240 node "$source/tests/system/page_test.mjs" "$url/" "$npm" ${key:+"$key"} || { tail -n 20 "$folder/log"; exit 1; }
  # A page that watches does not keep the server from ending.
  stop_server
}

try ""
echo "tester secret-of-the-page" > "$folder/keys"
chmod 600 "$folder/keys"
try secret-of-the-page --keys "$folder/keys"
