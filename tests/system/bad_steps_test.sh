#!/usr/bin/env bash
# Steps that go wrong in runs of their own accord: prepared text that was damaged, a learning rate that explodes. What is said, what is
# skipped or undone, and when a run stops; alone and on two ranks.
#   bad_steps_test.sh MOIETY SOURCE_DIR
set -uo pipefail
source "$(dirname "$(readlink -f "$0")")/tiny_run.sh"

cat > bad.js << 'JS'
// Prints the step and the trouble of each bad step.
const lines = require("fs").readFileSync(process.argv[2] + "/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l));
for (const l of lines) if (l.bad) console.log(l.step, l.bad.what, l.bad.back_to ?? "");
JS
cat > damage.js << 'JS'
// Turns every so many tokens (two bytes each) of a shard into one that no vocabulary has.
const fs = require("fs"), [file, every] = [process.argv[2], +process.argv[3]], bytes = fs.readFileSync(file);
const tokens = Number(bytes.readBigUInt64LE(bytes.length - 32));
for (let at = every; at < tokens; at += every) bytes.writeUInt16LE(65000, 2 * at);
fs.writeFileSync(file, bytes);
JS
settings=(--set checkpoint.every=1 --set checkpoint.keep=100)

# Damaged text: the step is named and skipped, and its weights are those of before.
$moiety train tiny.toml --set run.dir=healthy "${settings[@]}" > out 2> err || fail "a healthy run: $(tail -n 3 err)"
[[ -z $(node bad.js healthy) ]] || fail "a healthy run has bad steps: $(node bad.js healthy)"
for ranks in 1 2; do
  $moiety train tiny.toml --set run.dir=damaged-$ranks --set train.steps=1 > out 2> err || fail "before the damage: $(tail -n 3 err)"
  rm -r damaged-$ranks/checkpoints damaged-$ranks/metrics.jsonl
  node damage.js damaged-$ranks/data/copy.train.tokens 1500
  timeout 120 $moiety train tiny.toml --set run.dir=damaged-$ranks "${settings[@]}" --ranks $ranks > out 2> err || fail "damaged, $ranks ranks: $(tail -n 3 err)"
  bad=$(node bad.js damaged-$ranks)
  count=$(grep -c 'damaged data' <<< "$bad")
  ((count >= 1 && count < 8)) || fail "damaged, $ranks ranks: found at '$bad'"
  step=$(head -n 1 <<< "$bad" | cut -d ' ' -f 1)
  grep -q "step *$step  its data is damaged, .*copy.train.tokens has token 65000 at byte [0-9]*.*skipped" err || fail "nobody says where the damage is: $(cat err)"
  if ((step > 1)); then
    cmp "$(printf "damaged-$ranks/checkpoints/step-%08d/model.safetensors" $((step - 1)))" "$(printf "damaged-$ranks/checkpoints/step-%08d/model.safetensors" "$step")" ||
      fail "step $step was skipped and has changed the weights"
  fi
  grep -q '"final":true' damaged-$ranks/metrics.jsonl || fail "damaged, $ranks ranks: the run has not come to its end"
done
[[ $(node bad.js damaged-1) == "$(node bad.js damaged-2)" ]] || fail "two ranks have other bad steps"
$moiety report healthy damaged-1 --svg report.svg > out 2> err || fail "report: $(cat err)"
grep -q "damaged-1: $count bad steps were passed over" out && grep -q "damaged-1: step $step was bad" report.svg || fail "report says nothing of bad steps: $(cat out)"

# The damage in held-out text is said at once.
node damage.js healthy/data/copy.valid.tokens 100
$moiety train tiny.toml --set run.dir=healthy --set train.steps=9 > out 2> err && fail "damaged held-out text is taken"
grep -q 'copy.valid.tokens: token 65000 at byte 200 .*the file is damaged' err || fail "damaged held-out text: $(cat err)"

# An expert whose numbers overflow: the router that sees it first is named, and the text.
cat > overflow.js << 'JS'
const fs = require("fs"), file = process.argv[2], bytes = fs.readFileSync(file), header = Number(bytes.readBigUInt64LE(0));
const of = JSON.parse(bytes.subarray(8, 8 + header))["layers.0.experts.down.weight"];
bytes.writeFloatLE(3e38, 8 + header + of.data_offsets[0] + 4 * 2048);
fs.writeFileSync(file, bytes);
JS
cp -r healthy/checkpoints/step-00000008 model
rm model/state.json model/optimizer.safetensors
node overflow.js model/model.safetensors
for ranks in 1 2; do
  timeout 120 $moiety train tiny.toml --set run.dir=overflows-$ranks --set run.from=model --set bad_steps.most=2 --ranks $ranks > out 2> err && fail "$ranks ranks: an overflow is taken"
  grep -q 'step  *1  the loss is NaN, first in the router of layer 1; the costliest text is document [0-9]* of domain .*, NaN nats a token: skipped' err || fail "who overflows: $(cat err)"
  grep -q 'step 3: the loss is NaN.*: 2 of the 99 steps before were bad, too (bad_steps.most)' err || fail "an overflow goes on: $(cat err)"
done

# A learning rate that explodes, from step 30 on.
explodes() {
  local name=$1 ranks=$2 policy=$3
  $moiety train tiny.toml --set run.dir=$name --set train.steps=30 --set checkpoint.every=10 --ranks $ranks > out 2> err || fail "$name, 30 steps: $(tail -n 3 err)"
  timeout 120 $moiety train tiny.toml --set run.dir=$name --set train.steps=60 --set optimizer.lr=20 --set bad_steps.policy=$policy --set bad_steps.most=4 --ranks $ranks > out 2> err
}
for ranks in 1 2; do
  explodes stop-$ranks $ranks stop && fail "$ranks ranks: an exploding run did not stop"
  grep -q 'step 3[2-9]: the loss is .*usually.*; the costliest text is document [0-9]* of domain "\(copy\|recall\)".*bad_steps.policy is "stop"' err || fail "why it stopped: $(cat err)"
  [[ $(ls stop-$ranks/checkpoints) == *step-00000030 ]] || fail "the last checkpoint is gone: $(ls stop-$ranks/checkpoints)"

  explodes skip-$ranks $ranks skip && fail "$ranks ranks: an exploding run went on"
  grep -q ': 4 of the 99 steps before were bad, too (bad_steps.most)' err || fail "why it stopped: $(cat err)"
  [[ $(node bad.js skip-$ranks | grep -c 'loss spike') -eq 4 ]] || fail "skipped: $(node bad.js skip-$ranks)"

  # Undone, the loss is what it was, until the next step explodes.
  explodes back-$ranks $ranks roll_back && fail "$ranks ranks: an exploding run went on"
  [[ $(node bad.js back-$ranks | grep -c 'loss spike 20') -eq 4 ]] || fail "rolled back: $(node bad.js back-$ranks)"
  grep -q 'rolled back to step 20' err || fail "nobody says what was rolled back: $(cat err)"
  node -e '
    const lines = require("fs").readFileSync(process.argv[1] + "/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l)).filter(l => "loss" in l);
    const back = lines.findIndex(l => l.bad);
    if (!(lines[back + 1].loss < lines[19].loss + 0.5) || lines[back + 1].bad) throw "after the first: " + JSON.stringify(lines[back + 1]);
    if (lines.some((l, i) => l.step != i + 1)) throw "steps stand there twice";' back-$ranks || fail "$ranks ranks: a spike is not undone"
done
[[ $(node bad.js back-1) == "$(node bad.js back-2)" && $(node bad.js skip-1) == "$(node bad.js skip-2)" ]] || fail "two ranks come to other verdicts"
echo ok
