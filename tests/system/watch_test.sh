#!/usr/bin/env bash
# What is seen of a run in several processes: its timeline, where ranks' time goes, who is slow, who hangs; and layouts that cannot work.
#   watch_test.sh MOIETY SOURCE_DIR
set -uo pipefail
source "$(dirname "$(readlink -f "$0")")/tiny_run.sh"
sed -i 's/^steps = 8$/steps = 6/; s/^batch = 5$/batch = 8/; s/^accumulate = 2$/accumulate = 1/' tiny.toml

# Spans nest, exchanges of a track follow each other, every rank is there; and its sums are as many numbers as all others'.
cat > nests.js << 'JS'
const [file, ranks, ...names] = process.argv.slice(2);
const events = JSON.parse(require("fs").readFileSync(file, "utf8")).traceEvents, tracks = {}, sums = {};
for (const e of events) {
  if (e.ph == "M") continue;
  if (e.ph != "X" || !(e.dur >= 0)) throw "an event is " + JSON.stringify(e);
  (tracks[e.pid + "/" + e.tid] ??= []).push(e);
  if (e.name == "sum") (sums[e.args.number] ??= []).push(e);
}
for (const track of Object.values(tracks)) {
  track.sort((a, b) => a.ts - b.ts || b.dur - a.dur);
  const open = [];
  for (const e of track) {
    while (open.length && open.at(-1) <= e.ts + 1e-3) open.pop();
    if (open.length && e.ts + e.dur > open.at(-1) + 1e-3) throw "spans overlap: " + JSON.stringify(e);
    if (e.tid != 0 && open.length) throw "exchanges overlap on a track";
    open.push(e.ts + e.dur);
  }
}
for (let rank = 0; rank < ranks; ++rank) {
  for (const name of names) if (!events.some(e => e.pid == rank && e.name == name)) throw `rank ${rank} has no ${name}`;
}
for (const [number, all] of Object.entries(sums)) {
  if (new Set(all.map(e => e.args.bytes)).size != 1) throw "sum " + number + " has several sizes";
  // By aligned clocks nobody ends before all have begun.
  const begun = Math.max(...all.map(e => e.ts)), ended = Math.min(...all.map(e => e.ts + e.dur));
  if (all.length == ranks && ended < begun - 5000) throw `sum ${number} ends ${(begun - ended) / 1000} ms before all have begun: clocks differ`;
}
JS
$moiety train tiny.toml --set run.dir=one --timeline one.json > out 2> err || fail "a timeline of one: $(tail -n 3 err)"
node nests.js one.json 1 "step 1" "step 6" data forward backward optimizer "layer 1" validation || fail "the timeline of one"
$moiety train tiny.toml --set run.dir=three --ranks 3 --timeline three.json --timeline-steps 5 > out 2> err || fail "a timeline of three: $(tail -n 3 err)"
node nests.js three.json 3 "step 1" "step 5" forward backward optimizer gradients sum agree || fail "the timeline of three"
grep -q '"step 6"' three.json && fail "a timeline of more steps than asked"

# Where time goes is in every twentieth line; who is slowed to a third is named within twenty steps.
$moiety train tiny.toml --set run.dir=slow --set train.steps=4000 --set train.accumulate=10 --set validate.every=0 --ranks 2 --explain --timeline killed.json --timeline-steps 10000 > out 2> err &
launcher=$!
step_of() { tail -n 1 "$1/metrics.jsonl" 2> /dev/null | sed 's/.*"step":\([0-9]*\).*/\1/'; }
wait_for() {
  for _ in $(seq 600); do [[ $(step_of "$1") -ge $2 ]] 2> /dev/null && return; sleep 0.05; done
  fail "$1 does not get to step $2: $(tail -n 3 err)"
}
wait_for slow 25
slowed=$(pgrep -P $launcher | tail -n 1) 
from=$(step_of slow)
for _ in $(seq 500); do
  kill -STOP "$slowed"; sleep 0.02; kill -CONT "$slowed"; sleep 0.008
  grep -q 'rank 1 is slow' err && break
done
said=$(sed -n 's/^step *\([0-9]*\)  rank 1 is slow.*/\1/p' err | head -n 1)
[[ -n $said && $((said - from)) -le 22 ]] || fail "rank 1, slowed from step $from on, is named at step $said: $(cat err)"
kill -KILL $launcher; wait $launcher 2> /dev/null; for _ in $(seq 100); do pgrep -f "run.dir=slow" > /dev/null || break; sleep 0.05; done
grep -q 'all-to-all .* ms a MiB' err && grep -q 'a step, ms *predicted *measured' err || fail "--explain says: $(cat err)"
node nests.js killed.json 2 "step 2" forward sum || fail "the timeline of a run that was killed"
node -e '
  const lines = require("fs").readFileSync("slow/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l));
  const [line] = lines.filter(l => l.step == 20), r = line.ranks;
  if (r.seconds.length != 2 || !(r.waited[0] < r.seconds[0]) || !(r.bytes[0][1] > 0) || r.bytes[0][0] != 0) throw JSON.stringify(r);
  if (r.visits[0] + r.visits[1] != 10 * 8 * 64 * 2 * 2) throw "visits " + r.visits;  // passes, tokens, experts a token, layers
  if (lines.some(l => l.step == 21 && l.ranks)) throw "more often than said";
' || fail "the line of ranks"

# On a terminal ranks have a line each beneath the bar.
if command -v script > /dev/null; then
  script -qec "$moiety train tiny.toml --set run.dir=shown --set train.steps=12 --set train.accumulate=40 --ranks 2" /dev/null < /dev/null > shown.txt 2>&1 || fail "on a terminal: $(cat shown.txt)"
  grep -q 'rank *step ms *waits ms' shown.txt && grep -Eq '^ +1 +[0-9.]+ +[0-9.]+' shown.txt || fail "a terminal shows: $(cat shown.txt)"
fi

# A rank that hangs: said while it does, and who it was at the end.
$moiety train tiny.toml --set run.dir=hung --set train.steps=4000 --set validate.every=0 --ranks 3 --patience 3 > out 2> err &
launcher=$!
wait_for hung 5
pids=($(pgrep -P $launcher))
kill -STOP "${pids[1]}"
SECONDS=0
wait $launcher && fail "a run that hangs ends well"
[[ $SECONDS -lt 20 ]] || fail "a hung rank was noticed after $SECONDS s"
# It stood still within a step, or between two.
grep -Eq 'moiety train: rank 0 of 3 lost rank 1 in exchange [0-9]+ \((sum|all-to-all) of [0-9]+ numbers; (step [^)]*|agree)\): .*it gives no sign any more' err || fail "a hung rank is told as: $(cat err)"
[[ $(grep -c 'where the other ranks are' err) -eq 1 && $(grep -c 'never ended' err) -ge 1 ]] || fail "no table of a hang: $(cat err)"

# Layouts that cannot work: each process ends, within seconds, with one sentence.
port=$((20000 + $$ % 20000))
as_rank() { RANK=$1 WORLD_SIZE=${ranks:-2} LOCAL_WORLD_SIZE=${ranks:-2} MASTER_ADDR=127.0.0.1 MASTER_PORT=$port timeout 30 $moiety "${@:2}"; }
ends() {  # WHAT SENTENCE_OF_0 SENTENCE_OF_1: of processes 0 and 1, the last two jobs
  wait $first && fail "$1: rank 0 ends well"
  status=$?
  [[ $status -ne 124 ]] || fail "$1: rank 0 hangs"
  if [[ -n $3 ]]; then
    wait $second && fail "$1: rank 1 ends well"
    [[ $? -ne 124 ]] || fail "$1: rank 1 hangs"
    grep -q "$3" err.1 && [[ $(wc -l < err.1) -eq 1 ]] || fail "$1: rank 1 says: $(cat err.1)"
  fi
  grep -q "$2" err.0 && [[ $(grep -c 'moiety train: ' err.0) -eq 1 ]] || fail "$1: rank 0 says: $(cat err.0)"
  port=$((port + 1))
}
train=(train tiny.toml --set run.dir=wrong)
as_rank 0 "${train[@]}" --patience 4 > out 2> err.0 & first=$!
ends "a peer that never comes" 'rank 0 of 2 waited 4 s at 127.0.0.1:[0-9]*, and rank 1 did not come' ""
as_rank 1 "${train[@]}" --patience 4 > out 2> err.0 & first=$!
ends "rank 0 never comes" "rank 1 of 2 found nobody at 127.0.0.1:[0-9]* within 4 s" ""

node -e "require('net').createServer(() => {}).listen($port, '127.0.0.1', () => console.log('listens'))" > listens & listener=$!
while [[ ! -s listens ]]; do sleep 0.02; done
as_rank 0 "${train[@]}" > out 2> err.0 & first=$!
as_rank 1 "${train[@]}" --patience 4 > out 2> err.1 & second=$!
ends "a port in use" "port [0-9]* is taken" "rank 1 of 2: what answers at 127.0.0.1:[0-9]* is not the store"
kill $listener

as_rank 0 "${train[@]}" > out 2> err.0 & first=$!
ranks=3 as_rank 1 "${train[@]}" > out 2> err.1 & second=$!
ends "sizes that differ" "rank 0 of 2 waits for rank 1 in vain: it ended" "one of 3 ranks; rank 0 is moiety .*one of 2 ranks"

ranks=3 as_rank 0 "${train[@]}" --patience 20 > out 2> err.0 & first=$!
ranks=3 as_rank 1 "${train[@]}" --patience 20 > out 2> err.1 & second=$!
# The other one comes when these two are there: two connections to the store.
for _ in $(seq 300); do [[ $(awk -v port="$(printf ':%04X' $port)" '$3 ~ port "$" && $4 == "01"' /proc/net/tcp /proc/net/tcp6 | wc -l) -ge 2 ]] && break; sleep 0.02; done
sleep 0.5
ranks=3 as_rank 1 "${train[@]}" --patience 20 > out 2> err.2 && fail "two processes of one rank train"
grep -q 'two processes say that they are rank 1 of 3' err.2 || fail "the second of one rank says: $(cat err.2)"
ends "two of one rank" "in vain: it ended: two processes" "two processes"  # either may come first

if command -v objcopy > /dev/null; then
  objcopy --remove-section .note.gnu.build-id "$(dirname "$moiety")/moiety-train" other-build 2> /dev/null
  as_rank 0 "${train[@]}" > out 2> err.0 & first=$!
  RANK=1 WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port timeout 30 ./other-build "${train[@]:1}" > out 2> err.1 & second=$!
  ends "builds that differ" "in vain: it ended" "rank 1 is moiety .* build unknown, .*; rank 0 is moiety .* all ranks must be alike"
fi

# A rank that dies while the others wait for it
$moiety train tiny.toml --set run.dir=early --ranks 3 > out 2> err.0 & first=$!
until pids=($(pgrep -P $first)) && [[ ${#pids[@]} -eq 3 ]]; do sleep 0.01; done
kill -9 "${pids[2]}"
SECONDS=0
wait $first && fail "without a rank it trains"
[[ $SECONDS -lt 10 ]] || fail "a rank that died at the start was noticed after $SECONDS s"
[[ $(grep -c 'for rank 2 in vain: it was ended by signal 9' err.0) -eq 2 ]] || fail "a rank that died at the start: $(cat err.0)"
echo "all seen"
