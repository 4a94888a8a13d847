#!/usr/bin/env bash
# What who starts the server says about names and answers reaches those who ask.
#   serve_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
source "$source/tests/system/serve.bash"
fail() { echo "FAILED: $*"; exit 1; }
make_model "$source" 512 << 'JSON'
{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}{{ mood }}"}
JSON

# ask METHOD PATH [BODY]: the answer's body.
ask() {
  local body=${3:-}
  exec 3<> "/dev/tcp/127.0.0.1/${url##*:}"
  printf '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "${#body}" "$body" >&3
  sed '1,/^\r$/d' <&3
  exec 3>&-
}

start_server "$moiety" --alias first --alias second --max-tokens 7 --seed 3 --temperature 1 --chat-template-kwargs '{"mood": "glad"}'
[[ $(ask POST /apply-template '{"messages": [{"role": "user", "content": "hi "}]}') == '{"prompt":"hi glad"}' ]] || fail "the template's settings are lost"
[[ $(ask GET /props) == *'"n_predict":7,"seed":3,"temperature":1.0'* ]] || fail "the defaults of answers are lost: $(ask GET /props)"
one=$(ask POST /completion '{"prompt": "a", "model": "second", "ignore_eos": true}')
[[ $one == *'"model":"first"'* && $one == *'"tokens_predicted":7,'* ]] || fail "answered $one"
two=$(ask POST /completion '{"prompt": "a", "ignore_eos": true}')
[[ ${one%%'","tokens"'*} == "${two%%'","tokens"'*}" ]] || fail "the server's seed gave '$one' and '$two'"
[[ $(ask GET /v1/models) == *'"aliases":["model","second"]'* ]] || fail "its names are $(ask GET /v1/models)"
[[ $(ask POST /completion '{"prompt": "a", "model": "'"$folder/model"'"}') == *'"model":"first"'* ]] || fail "it does not answer to its path"
[[ $(ask POST /completion '{"prompt": "a", "model": "third"}') == *model_not_found* ]] || fail "it answers to a third name"
stop_server

start_server "$moiety" --alias '*'
[[ $(ask POST /completion '{"prompt": "a", "model": "third", "n_predict": 1}') == *'"model":"model"'* ]] || fail "it does not answer to any name"
stop_server

status=0
"$moiety" serve "$folder/model" --port 0 --chat-template-kwargs '[1]' 2> "$folder/err" || status=$?
[[ $status == 2 && $(< "$folder/err") == *"expected a JSON object"* ]] || fail "settings that are none: status $status, $(< "$folder/err")"
echo "all is as it was said"
