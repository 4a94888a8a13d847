#!/usr/bin/env bash
# moiety bench on a small model: what --json and --plot hold.
#   bench_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
$moiety bench "$source/tests/fixtures/models/mixtral/f32" --prompt 16 --batch 1,3 --depth 0,8 --new 4 --runs 1 \
  --plot "$folder/speed.svg" --json > "$folder/speed.json" 2> "$folder/progress"
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

points = [e for e in xml.parse(f"{folder}/speed.svg").iter() if e.tag.endswith("circle")]
assert len(points) == 2 * (4 + 4 + 2), len(points)  # three panels, each result with what would be possible
PYTHON
