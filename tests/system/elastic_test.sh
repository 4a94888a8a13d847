#!/usr/bin/env bash
# Ranks that are killed, stopped, added and retired while a run goes on: no step is lost, and the losses are those of a run that nobody
# disturbed.
#   elastic_test.sh MOIETY SOURCE_DIR
set -uo pipefail
source "$(dirname "$(readlink -f "$0")")/tiny_run.sh"

cat > compare.js << 'JS'
const lines = run => require("fs").readFileSync(run + "/metrics.jsonl", "utf8").trim().split("\n").map(l => JSON.parse(l)).filter(l => "loss" in l);
const [calm, disturbed] = [lines("calm"), lines(process.argv[2])], regroups = Number(process.argv[3]);
disturbed.forEach((line, i) => { if (line.step != i + 1) throw `line ${i + 1} is of step ${line.step}`; });
if (calm.length != disturbed.length) throw `${disturbed.length} steps of ${calm.length}`;
for (const [i, line] of disturbed.entries()) {
  for (const key of ["loss", "grad_norm"]) if (!(Math.abs(line[key] - calm[i][key]) <= 1e-4 * calm[i][key])) throw `step ${line.step}: ${key} ${line[key]}, undisturbed ${calm[i][key]}`;
}
const found = disturbed.filter(l => l.regrouped).length;
if (found < regroups) throw `ranks were grouped anew ${found} times`;
JS
settings=(--set train.steps=120 --set optimizer.lr=0.001 --set validate.every=0)
$moiety train tiny.toml --set run.dir=calm "${settings[@]}" > out 2> err || fail "undisturbed: $(tail -n 3 err)"

begin() { run=$1; shift; timeout 120 $moiety train tiny.toml --set run.dir=$run "${settings[@]}" --json "$@" > $run.out 2> $run.err & job=$!; }
# until step $1 is done
reach() { for _ in $(seq 2000); do [[ -f $run/metrics.jsonl && $(grep -c '"loss"' $run/metrics.jsonl) -ge $1 ]] && return; sleep 0.01; done; fail "$run never came to step $1: $(tail -n 3 $run.err)"; }
pid_of() { $moiety train ctl $run status | node -e 'console.log(JSON.parse(require("fs").readFileSync(0)).workers.find(w => w.rank == process.argv[1]).pid)' "$1"; }
end() {
  wait $job || fail "$run ended with $?: $(tail -n 5 $run.err)"
  grep -q '"finished": true' $run.out || fail "$run does not say how it ended: $(cat $run.out)"
  node compare.js $run $1 || fail "$run is not the undisturbed run: $(tail -n 5 $run.err)"
  [[ ! -e $run/supervisor.json ]] || fail "$run: the supervisor's card is left"
}

begin killed --ranks 4 --elastic 1 --set ranks.experts=4 --set ranks.rebalance=4 --set ranks.flops_a_byte=0
reach 10; kill -9 "$(pid_of 2)"
reach 50; kill -9 "$(pid_of 0)"
end 2
grep -q '"rehomed"' killed/metrics.jsonl || fail "no expert changes ranks"
grep -q 'worker 2 (rank 2) was ended by signal 9 (Killed): 3 ranks go on from step' killed.err || fail "who was killed: $(cat killed.err)"

begin stopped --ranks 3 --elastic 1
reach 10; kill -STOP "$(pid_of 1)"
end 1
grep -q 'worker 1 has given no sign for' stopped.err || fail "who was stopped: $(cat stopped.err)"

begin changing --ranks 2 --elastic 1 --set ranks.experts=2
reach 10; $moiety train ctl changing add > out || fail "add: $(cat out)"
for _ in $(seq 1000); do grep -q 'worker 2 joins' changing.err && break; sleep 0.01; done
$moiety train ctl changing retire 0 > out 2>&1 || fail "retire: $(cat out)"
$moiety train ctl changing retire 7 > out 2>&1 && fail "there is no worker 7"
grep -q 'there is no such worker' out || fail "no worker 7: $(cat out)"
end 1

# Too few are left: they wait for the one that takes the lost one's place.
begin resting --ranks 2 --elastic 2 --replace
reach 10; kill -9 "$(pid_of 1)"
end 1
grep -q '1 rank left, of 2 at least' resting.err || fail "who rests: $(cat resting.err)"

$moiety train ctl nowhere status > out 2>&1 && fail "nobody is there"
grep -q 'nowhere/supervisor.json' out || fail "nobody is there: $(cat out)"
$moiety train tiny.toml --set run.dir=searched --set model.gate=\"tree\" --set anneal.search_steps=5 --ranks 2 --elastic 1 > out 2> err && fail "a search with ranks that go"
grep -q 'leave out --elastic' err || fail "a search: $(cat err)"
$moiety train tiny.toml --ranks 2 --elastic 3 > out 2> err && fail "more are needed than there are"
grep -q -e '--elastic 3: --ranks 2 are fewer to begin with' err || fail "more than there are: $(cat err)"
RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 $moiety train tiny.toml --ranks 2 --elastic 1 > out 2> err && fail "another launcher's ranks are elastic"
grep -q 'leave it out under another launcher' err || fail "another launcher: $(cat err)"
echo "ranks may go and come"
