#!/usr/bin/env bash
# One run in several processes on this machine: the losses of one process, whoever has how many sequences; ranks that die, are told to
# stop, or were given different things.
#   ranks_test.sh MOIETY SOURCE_DIR
set -uo pipefail
source "$(dirname "$(readlink -f "$0")")/tiny_run.sh"

# The lines of steps and of validations: equal but for rounding, and for what depends on the clock.
cat > compare.js << 'JS'
const lines = run => require("fs").readFileSync(run + "/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l));
const [one, many] = [lines(process.argv[2]), lines(process.argv[3])];
const same = (a, b, at) => {
  if (typeof a == "number") { if (!(Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(a)))) throw `${at}: ${a} and ${b}`; return; }
  if (typeof a != "object" || a === null) { if (a !== b) throw `${at}: ${a} and ${b}`; return; }
  if (Object.keys(a).length != Object.keys(b).length) throw `${at}: other keys`;
  for (const key in a) if (key != "seconds" && key != "tokens_per_s") same(a[key], b[key], at + "." + key);
};
for (const line of many) delete line.rehomed;
if (one.length < 10) throw "only " + one.length + " lines";
same(one, many, process.argv[3]);
JS

case_of() {
  local name=$1
  shift
  local settings=()
  for setting in "$@"; do settings+=(--set "$setting"); done
  $moiety train tiny.toml --set run.dir="$name-1" "${settings[@]}" > out 2> err || fail "$name alone: $(tail -n 3 err)"
  for ranks in 2 3; do
    timeout 120 $moiety train tiny.toml --set run.dir="$name-$ranks" "${settings[@]}" --ranks $ranks > out 2> err || fail "$name, $ranks ranks: $(tail -n 3 err)"
    [[ $(grep -c '^checkpoint: ' out) -eq 1 ]] || fail "$name: not one rank speaks: $(cat out)"
    node compare.js "$name-1" "$name-$ranks" || fail "$name with $ranks ranks is not the run of one"
  done
}
case_of global
# Parts of sequences: two ranks to each, alone and beside two others, when neighbours share experts, too.
parts=(--set balance.scope='"micro"' --set train.recompute='"layers"' --set model.attention_experts=3 --set ranks.sequence=2)
$moiety train tiny.toml --set run.dir=parts-1 "${parts[@]}" --set ranks.sequence=1 > out 2> err || fail "parts alone: $(tail -n 3 err)"
for ranks in 2 4; do
  timeout 120 $moiety train tiny.toml --set run.dir=parts-$ranks "${parts[@]}" --set ranks.experts=$((ranks / 2)) --ranks $ranks > out 2> err ||
    fail "parts, $ranks ranks: $(tail -n 3 err)"
  node compare.js parts-1 parts-$ranks || fail "parts of sequences with $ranks ranks are not the run of one"
done
$moiety train tiny.toml --set run.dir=alone --set ranks.sequence=2 > out 2> err && fail "one rank has parts of sequences"
grep -q 'ranks.sequence is 2, and this process is alone' err || fail "a rank without another: $(cat err)"
case_of micro balance.scope=\"micro\" train.recompute=\"layers\"
case_of sequence balance.scope=\"sequence\" balance.entropy_loss=0.001 balance.mutual_information=0.01
case_of concentrated balance.concentration=0.01 model.attention_experts=3
case_of searched model.gate=\"tree\" anneal.search_steps=5
case_of bias balance.bias_rate=0.01 balance.aux_loss=0 model.score=\"sigmoid\"
case_of drawn model.weigh=\"sparse_mixer\" model.score=\"logits\" model.renormalise=false
case_of chance model.gate=\"random\" balance.consistency=0.1
case_of fewer model.gate=\"random\" balance.consistency=0.1 train.batch=1
case_of free model.zero_experts=1 model.null_experts=2 model.attention_experts=3

# Experts spread over ranks: the losses of one process, and its checkpoints. Eight experts on three ranks are 2, 3 and 3.
spread() {
  local one=$1 name=$2 ranks=$3
  shift 3
  local settings=()
  for setting in "$@"; do settings+=(--set "$setting"); done
  timeout 120 $moiety train tiny.toml --set run.dir="$name" "${settings[@]}" --ranks $ranks > out 2> err || fail "$name: $(tail -n 3 err)"
  node compare.js "$one" "$name" || fail "$name is not the run of one"
}
spread global-1 spread-2 2 ranks.experts=2
$moiety train tiny.toml --set run.dir=one-sequence-1 --set train.batch=1 > out 2> err || fail "one sequence: $(tail -n 3 err)"
spread one-sequence-1 one-sequence 3 train.batch=1 ranks.experts=3 ranks.chunks=2  # two ranks have nothing to compute but others' tokens
spread global-1 folded 4 ranks.experts=2 ranks.dispatch=\"two_level\" ranks.node=1 checkpoint.every=4
rm -r folded/checkpoints/step-00000008
$moiety train tiny.toml --set run.dir=folded > out 2> err || fail "one process does not go on from four: $(tail -n 3 err)"
node compare.js global-1 folded || fail "gone on with alone it is not the run of one"
node -e '
  const state = run => require("fs").readFileSync(run + "/checkpoints/step-00000008/model.safetensors").length;
  if (state("global-1") != state("folded")) throw "another size";
' || fail "a checkpoint of ranks is not that of one"

# Experts that change ranks while training goes on, and go on from a checkpoint in another layout.
homes=(ranks.rebalance=2 ranks.flops_a_byte=0)
spread global-1 rehomed 3 ranks.experts=3 checkpoint.every=4 "${homes[@]}"
node -e '
  const homes = require("fs").readFileSync("rehomed/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l)).filter(l => l.rehomed);
  if (homes.length == 0 || homes.some(l => l.step % 2 || l.rehomed.experts < 2 || !(l.rehomed.slowest_after < l.rehomed.slowest_before))) throw JSON.stringify(homes);
' || fail "experts change ranks"
grep -q 'experts have changed ranks' err || fail "nobody says that experts have changed ranks: $(cat err)"
rm -r rehomed/checkpoints/step-00000008
spread global-1 rehomed 4 ranks.experts=2 ranks.lend=\"hot\" "${homes[@]}"

# A pipeline of stages: the losses of one process, with an embedding that the first stage and the last both hold; gone
# on with by another layout.
staged=(--set model.layers=4 --set model.tied_embeddings=true --set train.accumulate=4 --set checkpoint.every=4)
$moiety train tiny.toml --set run.dir=staged-1 "${staged[@]}" > out 2> err || fail "staged alone: $(tail -n 3 err)"
pipe() {
  local name=$1 ranks=$2
  timeout 120 $moiety train tiny.toml --set run.dir="$name" "${staged[@]}" "${@:3}" --ranks $ranks > out 2> err || fail "$name: $(tail -n 3 err)"
  node compare.js staged-1 "$name" || fail "$name is not the run of one"
}
pipe pipe-2 2 --set ranks.stages=2
pipe interleaved 2 --set ranks.stages=2 --set ranks.virtual=2 --set train.recompute='"layers"'
pipe pipe-4 4 --set ranks.stages=2 --set ranks.experts=2 --timeline pipe.json
node -e '
  const names = new Set(JSON.parse(require("fs").readFileSync("pipe.json", "utf8")).traceEvents.map(e => e.name));
  for (const name of ["forward", "backward"]) if (!names.has(name)) throw "no span " + name;
  if (![...names].some(name => name.startsWith("message of 0 to 2"))) throw "no message between stages: " + [...names];
' || fail "the timeline of a pipeline"
rm -r pipe-4/checkpoints/step-00000008
pipe pipe-4 3 --set ranks.experts=3
rm -r interleaved/checkpoints/step-00000008
pipe interleaved 3 --set ranks.stages=3
spread bias-1 pipe-bias 2 ranks.stages=2 balance.bias_rate=0.01 balance.aux_loss=0 model.score=\"sigmoid\"
# Dense matrices shared by neighbours, experts over the same ranks in another way, and the checkpoint of one process.
slices=(model.heads=4 model.kv_heads=2 model.dense_layers=1 model.shared_hidden=9 'balance.scope="micro"')
$moiety train tiny.toml --set run.dir=slices-1 "${slices[@]/#/--set=}" > out 2> err || fail "slices alone: $(tail -n 3 err)"
spread slices-1 slices-2 2 "${slices[@]}" ranks.tensor=2
spread slices-1 slices-6 6 "${slices[@]}" ranks.tensor=2 ranks.experts=3
spread slices-1 slices-pipe 4 "${slices[@]}" ranks.tensor=2 ranks.stages=2
spread slices-1 slices-homes 4 "${slices[@]}" ranks.tensor=2 ranks.stages=2 ranks.experts=2 "${homes[@]}"
spread slices-1 slices-4 4 "${slices[@]}" ranks.tensor=2 ranks.sequence=2 train.recompute=\"layers\" checkpoint.every=4
rm -r slices-4/checkpoints/step-00000008
$moiety train tiny.toml --set run.dir=slices-4 "${slices[@]/#/--set=}" > out 2> err || fail "one process does not go on from slices: $(tail -n 3 err)"
node compare.js slices-1 slices-4 || fail "gone on with from slices it is not the run of one"

# Killed in the middle: said within seconds, and gone on with from the checkpoint to the same end, by another number of ranks.
long=(train tiny.toml --set run.dir=killed --set train.steps=400 --set train.accumulate=1 --set validate.every=0 --set checkpoint.every=5)
wait_for() {
  for _ in $(seq 600); do [[ $(grep -c loss "$1/metrics.jsonl" 2> /dev/null) -ge $2 ]] && return; sleep 0.05; done
  fail "$1 does not get to step $2: $(tail -n 3 err)"
}
$moiety "${long[@]}" --ranks 3 > out 2> err &
launcher=$!
wait_for killed 12
pids=($(pgrep -P $launcher))
[[ ${#pids[@]} -eq 3 ]] || fail "there are ${#pids[@]} ranks"
kill -9 "${pids[1]}"
SECONDS=0
wait $launcher && fail "a run that lost a rank ends well"
[[ $SECONDS -lt 15 ]] || fail "a lost rank was noticed after $SECONDS s"
grep -q 'was ended by signal 9' err && grep -q 'lost rank 1 in exchange' err && grep -q 'where the other ranks are' err || fail "a lost rank is told as: $(cat err)"
$moiety "${long[@]}" --ranks 2 > out 2> err &
launcher=$!
wait_for killed 25
kill -TERM $launcher
wait $launcher
[[ $? -eq 143 ]] || fail "told to stop it ends with another status: $(cat err)"
[[ $(grep -c 'stopped after step' err) -eq 1 ]] || fail "told to stop it says: $(cat err)"
$moiety "${long[@]}" --set train.steps=60 > out 2> err || fail "one process does not go on: $(tail -n 3 err)"
$moiety "${long[@]}" --set train.steps=60 --set run.dir=undisturbed > out 2> err || fail "undisturbed: $(tail -n 3 err)"
node -e '
  const loss = run => require("fs").readFileSync(run + "/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l)).filter(l => l.loss);
  const [a, b] = [loss("killed"), loss("undisturbed")];
  if (a.length != 60 || a.some((l, i) => l.step != i + 1)) throw "a step is missing or stands twice";
' || fail "the killed run's steps"

# Other launchers; and what was given to one rank alone.
as_rank() { RANK=$1 WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port timeout 60 $moiety train tiny.toml --set run.dir=two "${@:2}"; }
port=$((20000 + $$ % 20000))
as_rank 0 > out 2> err & 
as_rank 1 > out.1 2> err.1 || fail "rank 1 of 2: $(cat err.1)"
wait $! || fail "rank 0 of 2: $(cat err)"
[[ -s out && ! -s out.1 ]] || fail "rank 1 speaks: $(cat out.1)"
node compare.js global-1 two || fail "two ranks of another launcher are not the run of one"
port=$((port + 1))
as_rank 0 --set run.dir=differ > out 2> err &
as_rank 1 --set run.dir=differ --set model.width=64 > out.1 2> err.1 && fail "ranks with different models train"
wait $! && fail "rank 0 trains with another model than rank 1"
grep -q 'rank 1 was given "width = 64", rank 0 "width = 32"' err.1 || fail "the sentence of a rank that differs: $(cat err.1)"
grep -q 'another configuration' err || fail "the sentence of the other: $(cat err)"

refused() {
  $moiety train tiny.toml --set run.dir=refused --ranks 2 --set "$1" "${@:3}" > out 2> err && fail "$1 passes with two ranks"
  grep -q "$2" err || fail "$1 is refused with: $(cat err)"
}
refused train.capacity=1.5 'train.capacity looks at all tokens of a pass'
refused model.select=\"expert_choice\" 'expert_choice'
refused ranks.sequence=3 'ranks.sequence is 3, which does not divide 2 ranks'
refused ranks.stages=3 'ranks.stages is 3, which does not divide 2 ranks'
refused ranks.virtual=2 'ranks.virtual (2) is of a pipeline'
refused ranks.virtual=2 '2 stages of 2 chunks .* and the model has 2' --set ranks.stages=2
refused ranks.experts=2 'ranks.experts is 2, which does not divide 1 ranks of a stage' --set ranks.stages=2
refused ranks.tensor=2 'ranks.tensor is 2, and there are 1 key-value heads to share out'
refused ranks.rebalance=5 'ranks.rebalance moves experts from rank to rank'
refused ranks.experts=3 'ranks.experts is 3, which does not divide 2 ranks'
$moiety train tiny.toml --set run.dir=refused --set ranks.experts=2 > out 2> err && fail "experts are shared with nobody"
grep -q 'ranks.experts is 2, and this process is alone' err || fail "shared with nobody: $(cat err)"
RANK=x WORLD_SIZE=2 $moiety train tiny.toml > out 2> err && fail "a rank that is no number passes"
grep -q "the variable RANK is 'x'" err || fail "a rank that is no number: $(cat err)"
echo "as one"
