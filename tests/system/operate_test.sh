#!/usr/bin/env bash
# A server's life as its operator sees it: a config file, keys that are changed, an end with a stream under way, and prompts that
# are still known after a restart.
#   operate_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
source "$source/tests/system/serve.bash"
make_model "$source" 8192 << 'JSON'
{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"}
JSON
fail() { echo "FAILED: $*"; tail -n 20 "$folder/log"; exit 1; }

echo "alice first-key" > "$folder/keys"
cat > "$folder/serve.toml" << TOML
alias = "operated"
context = 8192
keys = "$folder/keys"
prompt-cache = "$folder/prompts"
drain-seconds = 60
TOML
status=0
"$moiety" serve "$folder/model" --config <(echo 'drain-second = 1') 2> "$folder/err" || status=$?
[[ $status == 2 ]] && grep -q "drain-seconds" "$folder/err" || fail "a name that is none in the config: status $status, $(< "$folder/err")"

cat > "$folder/client.py" << 'PYTHON'
import http.client, json, os, pathlib, signal, socket, sys, time
from urllib.parse import urlsplit

url, folder, server = urlsplit(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4])

def ask(path, body=None, key=None):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request("POST" if body else "GET", path, body and json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status, json.loads(text) if text.startswith("{") else text, answer.headers

def chat(key, text="The library of experts is large. " * 20):
    return ask("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}, key)

def first_life():
    status, models, _ = ask("/v1/models", key="first-key")
    assert status == 200 and models["data"][0]["id"] == "operated", models
    assert chat(None)[0] == chat("wrong")[0] == 401
    status, answer, _ = chat("first-key")
    assert status == 200, answer
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0, answer
    (folder / "answer").write_text(answer["choices"][0]["message"]["content"])

    status, response, _ = ask("/v1/responses", {"input": "x", "max_output_tokens": 4}, "first-key")
    assert status == 200 and ask("/v1/responses/" + response["id"], key="first-key")[1] == response, response

    # Rotation: the new key is in force at once, the old one out of it; a broken file changes nothing.
    (folder / "keys").write_text("alice second-key\n")
    assert chat("first-key")[0] == 401 and chat("second-key")[0] == 200
    (folder / "keys").write_text("alice\n")
    assert chat("first-key")[0] == 401 and chat("second-key")[0] == 200

    # A stream that its client reads slowly is under way when the server is told to end.
    body = json.dumps({"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "seed": 1, "stream": True, "stream_options": {"include_usage": True}})
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.settimeout(60)
    stream.connect((url.hostname, url.port))
    stream.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer second-key\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    got = stream.recv(4096)
    assert got.startswith(b"HTTP/1.1 200"), got
    os.kill(server, signal.SIGTERM)
    while ask("/health")[0] == 200:
        time.sleep(0.05)
    status, refused, headers = chat("second-key")
    assert status == 503 and "Retry-After" in headers, (status, refused)
    while more := stream.recv(1 << 16):
        got += more
    events = [line[6:] for line in got.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-3:]
    usage = json.loads(events[-2])["usage"]
    assert usage["completion_tokens"] == 4000, usage

def second_life():
    status, answer, _ = chat("second-key")
    assert status == 200, answer
    usage = answer["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"] / 2, usage
    assert answer["choices"][0]["message"]["content"] == (folder / "answer").read_text()

{"first": first_life, "second": second_life}[sys.argv[1]]()
PYTHON

start_server "$moiety" --config "$folder/serve.toml"
timeout 120 python3 "$folder/client.py" first "$url" "$folder" "$server" || fail "the first life"
wait "$server" || fail "the server ended with status $?"
server=
grep -q "the old API keys stay" "$folder/log" || fail "a broken file of keys was not logged"
grep -q "library of experts" "$folder/log" && fail "what was asked is in the log"
[[ -s $folder/prompts ]] || fail "no prompts were saved"

echo "alice second-key" > "$folder/keys"
start_server "$moiety" --config "$folder/serve.toml"
timeout 120 python3 "$folder/client.py" second "$url" "$folder" "$server" || fail "the second life"
stop_server
