#!/usr/bin/env bash
# Routing traces: recorded by commands, read off, gone on with after the recording process was killed.
#   trace_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "$moiety" "$source" "$folder" <<'PYTHON'
import json, os, signal, subprocess, sys, time
import xml.etree.ElementTree as xml

moiety, source, folder = sys.argv[1:]
model = f"{source}/tests/fixtures/models/mixtral/f32"   # 3 layers of 4 experts, 2 a token
path = lambda name: f"{folder}/{name}"

def run(*arguments, status=0):
    done = subprocess.run([moiety, *arguments], capture_output=True, text=True)
    assert done.returncode == status, (arguments, done.returncode, done.stderr)
    return done.stdout if status == 0 else done.stderr

def report(trace, *options):
    return json.loads(run("trace", "report", trace, "--json", *options))

text = open(f"{source}/docs/GLOSSARY.md").read()
open(path("words.valid.txt"), "w").write(text)
open(path("numbers.txt"), "w").write(" ".join(str(n * n) for n in range(2000)))

# Recorded, and gone on with
recorded = json.loads(run("trace", "record", model, path("words.valid.txt"), path("numbers.txt"), "--out", path("r"), "--tokens", "1500",
                          "--sequence", "200", "--json"))
assert recorded["tokens"] == 3000 and recorded["domains"] == {"words": 1500, "numbers": 1500}, recorded
assert recorded["bytes"] == os.path.getsize(path("r")) < 3000 * 3 * 2 * 3 + 16 * 60, recorded
r = report(path("r"), "--plot", path("r.svg"))
assert (r["tokens"], r["sequences"], r["steps"]) == (3000, 16, 16), r
assert {d["name"]: d["tokens"] for d in r["domains"]} == recorded["domains"], r["domains"]
assert [l["layer"] for l in r["layers"]] == [0, 1, 2]
for layer in r["layers"]:
    assert sum(layer["visits"]) == 2 * 3000 and len(layer["visits"]) == 4, layer
    assert 0 < layer["repeated"] < 1 and abs(layer["repeated_by_chance"] - 0.5) < 1e-9, layer
    assert all(0.5 < s["srp"] <= 1 for s in layer["srp"] if s["segment"] <= 64), layer
    for s in layer["sch"]:
        assert s["sch"] == sorted(s["sch"]) and s["sch"][-1] == 1 and 0 < s["sch"][0] <= 0.5, s
assert r["local_consistency"][3]["segment"] == 256 and r["local_consistency"][3]["srp"] is None
assert "to_next_layer" in r["layers"][1] and "to_next_layer" not in r["layers"][2]
assert 0 < r["domain_divergence"][0]["bits"] < 1
cells = [e for e in xml.parse(path("r.svg")).iter() if e.tag.endswith("rect")]
assert len(cells) >= 3 * 4
run("trace", "record", model, path("numbers.txt"), "--out", path("r"), "--tokens", "100")
assert (report(path("r"))["tokens"], report(path("r"))["sequences"]) == (3100, 17)
assert report(path("r"), "--tokens", "200")["tokens"] == 200
assert "experts that go together most" in run("trace", "report", path("r"))

# Commands that record as they go: each token once
scored = json.loads(run("eval", model, "--text", path("words.valid.txt"), "--window", "64", "--trace", path("e"), "--json"))["texts"][0]
e = report(path("e"))
assert e["tokens"] == scored["tokens"] and e["sequences"] == 1 and e["domains"][0]["name"] == "words", (e, scored)
assert [l["visits"] for l in e["layers"]] == scored["expert_visits"]
run("generate", model, "--tokens", "5,6,7", "-n", "9", "--greedy", "--trace", path("g"))
run("generate", model, "--tokens", "5,6,7", "-n", "9", "--greedy", "--trace", path("g"))
g = report(path("g"))
assert (g["tokens"], g["sequences"], g["steps"]) == (2 * (3 + 8), 2, 2 * 9), g
run("bench", model, "--prompt", "16", "--batch", "3", "--new", "4", "--runs", "1", "--trace", path("b"))
b = report(path("b"))
assert {d["name"]: d["tokens"] for d in b["domains"]} == {"prefill": 16, "decode": 12} and b["sequences"] == 4, b

# Killed in the middle
open(path("long.txt"), "w").write(text * 100)
before = os.path.getsize(path("r"))
victim = subprocess.Popen([moiety, "trace", "record", model, path("long.txt"), "--out", path("r"), "--sequence", "64"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
deadline = time.time() + 60
while os.path.getsize(path("r")) < before + 20000 and victim.poll() is None and time.time() < deadline:
    time.sleep(0.01)
assert "another process is writing it" in run("trace", "record", model, path("numbers.txt"), "--out", path("r"), status=1)
victim.send_signal(signal.SIGKILL)
assert victim.wait() == -signal.SIGKILL, "the recording was over before it could be killed"
killed = report(path("r"))
assert killed["tokens"] > 3100, killed["tokens"]
os.truncate(path("r"), os.path.getsize(path("r")) - 7)  # and the last write did not come to its end
torn = report(path("r"))
assert torn["steps"] == killed["steps"] - 1, (torn["steps"], killed["steps"])
run("trace", "record", model, path("numbers.txt"), "--out", path("r"), "--tokens", "50")
assert report(path("r"))["tokens"] == torn["tokens"] + 50

# Replays: no policy finds more than the best possible cache, a cache for all misses each expert once, one for none all
def replay(*options):
    return {(r["slots"], r["policy"]): r for r in json.loads(run("trace", "replay", path("r"), "--json", "--token-by-token", *options))["results"]}

replays = replay("--share", "0.25,0.5")
assert len(replays) == 14, replays
for (slots, policy), r in replays.items():
    assert replays[slots, "belady"]["misses"] <= r["misses"], (slots, policy)
experts = sum(len(l["visits"]) for l in report(path("r"))["layers"])
assert replay("--slots", str(experts), "--policy", "lru")[experts, "lru"]["misses"] <= experts
assert replay("--slots", "0", "--policy", "blend")[0, "blend"]["hits"] == 0
pinned = replay("--share", "0.25", "--policy", "lru", "--pin", path("r"))
assert list(pinned.values())[0]["hits"] != replays[list(pinned)[0]]["hits"]
assert "--policy fifo" in run("trace", "replay", path("r"), "--policy", "fifo", status=2)

# What is no trace, or another model's
with open(path("r"), "r+b") as file:
    file.seek(200)
    byte = file.read(1)
    file.seek(200)
    file.write(bytes([byte[0] ^ 1]))
assert "is broken" in run("trace", "report", path("r"), status=1)
assert "is broken" in run("trace", "record", model, path("numbers.txt"), "--out", path("r"), status=1)
assert "not a routing trace" in run("trace", "report", path("numbers.txt"), status=1)
assert "a trace of f32" in run("generate", f"{source}/tests/fixtures/models/olmoe/bf16", "--tokens", "1", "-n", "1", "--trace", path("g"), status=1)
assert "dense model" in run("generate", f"{source}/tests/fixtures/models/llama/bf16", "--tokens", "1", "-n", "1", "--trace", path("d"), status=1)
assert not os.path.exists(path("d"))
assert 'moiety trace has no "sing"' in run("trace", "sing", status=2)

# Training, where it was built
if os.access(f"{os.path.dirname(moiety)}/moiety-train", os.X_OK):
    os.chdir(source)
    run("train", "recipes/tiny.toml", "--set", f"run.dir={folder}/run", "--set", "train.steps=5", "--set", f"trace.file={path('t')}", "--set", "trace.every=2")
    t = report(path("t"))
    assert t["model"] == "run" and t["steps"] == 3, t
    run("trace", "replay", path("t"), "--share", "0.5")
    run("trace", "record", f"{source}/tests/fixtures/models/mixtral/f32", path("numbers.txt"), "--out", path("other"), "--tokens", "50")
    assert "not those of" in run("trace", "replay", path("other"), "--pin", path("t"), status=1)
    assert all(sum(l["visits"]) == t["tokens"] * t["experts_per_token"] for l in t["layers"]), t
print("recorded, killed, gone on with, read")
PYTHON
