#!/usr/bin/env bash
# moiety bench on a small model: what --json, --plot and --save-tokens hold; a case's reading of experts, in less memory than it needs.
#   bench_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
$moiety bench "$source/tests/fixtures/models/mixtral/f32" --prompt 16 --batch 1,3 --depth 0,8 --new 4 --runs 1 \
  --plot "$folder/speed.svg" --json > "$folder/speed.json" 2> "$folder/progress"
save_tokens() {
  $moiety bench "$source/tests/fixtures/models/mixtral/f32" --prompt 16 --batch 1,3 --new 4 --runs 2 --tokens topics --save-tokens "$folder/$1" "${@:2}"
}
save_tokens tokens
save_tokens new-tokens --memory 1GiB
$moiety bench --synthetic olmoe-1b-7b --layers 1 --type q4_0 --routing skewed --save "$folder/model.gguf" > "$folder/log" 2>&1
$moiety bench "$folder/model.gguf" --prompt 32 --batch 1 --new 8 --runs 2 --memory 300MiB --tokens topics --disk-rate 1MB --json \
  > "$folder/streamed.json" 2> "$folder/progress"
python3 - "$folder" <<'PYTHON'
import json, sys
import xml.etree.ElementTree as xml

folder = sys.argv[1]
measured = json.load(open(f"{folder}/speed.json"))
runs = [(r["phase"], r["batch"], r["depth"]) for r in measured["results"]]
assert runs == [(phase, batch, depth) for depth in (0, 8) for phase, batch in (("prefill", 1), ("decode", 1), ("decode", 3))], runs
for result in measured["results"]:
    assert result["tokens_per_second"] > 0 and result["share_of_bound"] > 0, result
    assert result["bytes_per_step"] > result["weight_bytes_per_step"] > 0, result
one, three = measured["results"][1], measured["results"][2]
assert one["experts_per_layer"] == 2 <= three["experts_per_layer"] <= 6, (one, three)
assert all(limit > 0 for limit in measured["limits"].values()), measured["limits"]

# "round case phase id …": three rounds, the first to warm up, of a prompt, one sequence and three
def lines(name):
    return [line.split() for line in open(f"{folder}/{name}")]
assert [line[:3] for line in lines("tokens")] == [
    [str(round), case, phase] for round in range(3)
    for case, phase in (("0", "prefill"), ("1", "decode"), ("2", "decode"), ("2", "decode"), ("2", "decode"))]
assert [len(line) - 3 for line in lines("tokens")] == 3 * [16, 4, 4, 4, 4]
ids = [[line[3:] for line in lines(name)] for name in ("tokens", "new-tokens")]
assert ids[0][:5] == ids[0][5:10] == ids[1][:5] != ids[1][5:10] != ids[1][10:], ids

# What is bound by a disk of one megabyte a second; prompts of 32 tokens visit 8 experts each, most of them not in memory
streamed = json.load(open(f"{folder}/streamed.json"))
assert streamed["limits"]["disk_bytes_per_second"] == 1e6 and streamed["streaming"]["lossy"] is False, streamed
for result in streamed["results"]:
    experts = result["experts"]
    assert result["bound"] == "disk" and experts["misses"] > 0 < experts["bytes_read"], result
    assert abs(experts["bytes_per_token"] * 2 * result["tokens"] / experts["bytes_read"] - 1) < 1e-9, result
    assert abs(experts["hit_rate"] - experts["hits"] / (experts["hits"] + experts["misses"])) < 1e-9, result
assert streamed["results"][1]["experts"]["hits"] + streamed["results"][1]["experts"]["misses"] == 2 * 8 * 8, streamed

points = [e for e in xml.parse(f"{folder}/speed.svg").iter() if e.tag.endswith("circle")]
assert len(points) == 2 * (4 + 4 + 2), len(points)  # three panels, each result with what would be possible
PYTHON
