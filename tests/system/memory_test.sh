#!/usr/bin/env bash
# --memory: the same tokens as without it, within the budget; budgets that can't be.
#   memory_test.sh MOIETY SOURCE_DIR
set -euo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
$moiety bench --synthetic olmoe-1b-7b --layers 1 --type q4_0 --save "$folder/model.gguf" > "$folder/log" 2>&1
python3 - "$moiety" "$folder/model.gguf" "$source/tests/fixtures/models/mixtral/f32" <<'PYTHON'
import json, re, resource, subprocess, sys

moiety, model, small = sys.argv[1:]

def generate(*options, model=model):
    command = [moiety, "generate", model, "--tokens", ",".join(map(str, range(100, 160))), "-n", "24", "--greedy", "--json", *options]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, json.loads(run.stdout) if run.returncode == 0 else None, run.stderr

def peak():  # of the largest child so far, bytes
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024

# The least, as the error says
status, _, error = generate("--memory", "1MB")
assert status == 1 and "runs in no less than" in error, (status, error)

least = re.search(r"no less than ([0-9.]+) GiB", error)[1]
status, _, error = generate("--memory", f"{float(least) + 0.01:.2f}GiB")
assert status == 0 and "experts stay in it" in error, (least, status, error)

MiB = 1 << 20
found = []
for budget in (260, 320):
    status, out, error = generate("--memory", f"{budget}MiB")
    assert status == 0 and "experts stay in it" in error, (budget, status, error)
    assert peak() <= 1.03 * budget * MiB, (budget, peak() / MiB)
    assert out["experts"]["misses"] > 0, out
    found.append(out)
status, resident, error = generate()
assert status == 0 and "experts" not in resident and not error, (status, error)
assert peak() > 340 * MiB, peak() / MiB
assert all(out["tokens"] == resident["tokens"] for out in found)
assert found[0]["experts"]["misses"] > found[1]["experts"]["misses"], found

status, out, error = generate("--memory", "much", model=small)
assert status == 2 and "--memory much: expected an amount" in error, (status, error)
status, out, error = generate("--memory", "2GiB", model=small)
assert status == 0 and "experts" not in out, (status, error)
PYTHON
