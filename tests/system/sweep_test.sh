#!/usr/bin/env bash
# A small grid of runs, stopped and gone on with, compared; synthetic text learnt from and asked about.
#   sweep_test.sh MOIETY SOURCE_DIR
set -uo pipefail
moiety=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fail() { echo "FAILED: $*"; exit 1; }

$moiety corpus --synthetic copy,recall text --synthetic-mb 0.05 || fail "synthetic text"
[[ -s text/copy.train.txt && -s text/recall.valid.txt && ! -e text/arithmetic.train.txt ]] || fail "which files were written"

cat > tiny.toml << 'TOML'
[[domain]]
name = "copy"
train = "text/copy.train.txt"
valid = "text/copy.valid.txt"
[tokenizer]
vocab_size = 300
[model]
layers = 1
width = 32
heads = 2
kv_heads = 1
head_dim = 16
experts = 4
expert_hidden = 32
[schedule]
warmup = 2
[train]
steps = 6
sequence = 64
[checkpoint]
every = 2
[run]
dir = "runs"
threads = 1
TOML
sweep=(train tiny.toml --sweep optimizer.lr=0,0.01 --sweep run.seed=1,2)

# Nothing is run if any combination is wrong.
$moiety train tiny.toml --sweep model.experts=4,1 > out 2> err && fail "one expert for two a token passes"
grep -q 'model.experts_per_token (2) is more than model.experts (1)' err || fail "the sentence of a wrong combination: $(cat err)"
$moiety train tiny.toml --sweep model.layerz=1,2 > out 2> err && fail "a key that is none passes"
grep -q 'layerz' err || fail "the sentence of a wrong key: $(cat err)"
[[ ! -e runs ]] || fail "something was run before everything was checked"

$moiety "${sweep[@]}" --json > all.json 2> err || fail "the sweep: $(cat err)"
node -e '
  const j = JSON.parse(require("fs").readFileSync("all.json"));
  const bits = j.configurations.map(c => c.bits_per_byte.mean);
  if (bits.length != 2 || bits[0] > bits[1]) throw "two configurations, best first: " + bits;
  if (j.configurations.some(c => c.bits_per_byte.runs != 2 || !c.runs.every(r => r.finished && r.steps == 6))) throw "two finished runs each";
  if (!(j.equal.flops > 0 && j.configurations[0].loss_at_equal_flops.mean > 0)) throw "FLOPs";
' || fail "what the sweep prints"
grep -q 'optimizer.lr .* (by the step law)' err || fail "what was chosen is not said: $(cat err)"

# Finished ones are left alone, one that was killed goes on to the same bits per byte.
cp -r runs was
rm -r "runs/lr=0.01,seed=2/checkpoints/"step-*6
grep -v '"final"' "was/lr=0.01,seed=2/metrics.jsonl" > "runs/lr=0.01,seed=2/metrics.jsonl"
$moiety "${sweep[@]}" --json > again.json 2> err || fail "the sweep once more: $(cat err)"
[[ $(grep -c 'finished already' err) -eq 3 ]] || fail "what was finished was made again: $(cat err)"
cmp "was/lr=0,seed=1/metrics.jsonl" "runs/lr=0,seed=1/metrics.jsonl" || fail "a finished run was touched"
bits='console.log(JSON.parse(require("fs").readFileSync(0)).configurations.map(c => c.bits_per_byte.mean).join())'
[[ $(node -e "$bits" < all.json) == "$(node -e "$bits" < again.json)" ]] || fail "a run that went on ended elsewhere"

# A folder that holds something else is not gone on with.
$moiety train tiny.toml --set train.steps=9 --sweep optimizer.lr=0 --sweep run.seed=1 > out 2> err && fail "another configuration in the same folder passes"
grep -q 'was made with train.steps = 6' err || fail "the sentence of another configuration: $(cat err)"

$moiety report runs --svg runs.svg --db runs.sqlite > table || fail "report"
grep -q '^lr 0.01 ' table || fail "the table: $(cat table)"
grep -q '</svg>' runs.svg && [[ -s runs.sqlite ]] || fail "the chart and the database"
$moiety report runs/lr=0,seed=1 runs/lr=0,seed=2 --json > report.json || fail "report of two"
mkdir none
for wrong in nowhere none tiny.toml; do
  $moiety report $wrong > out 2> err && fail "report $wrong passes"
  [[ $(wc -l < err) -eq 1 ]] || fail "report $wrong: $(cat err)"
done

$moiety eval "runs/lr=0,seed=1" --text text/copy.valid.txt --tokens 200 --next-byte --probes copy,recall --questions 5 --shots 1 --json > eval.json || fail "eval"
node -e '
  const j = JSON.parse(require("fs").readFileSync("eval.json"));
  if (j.probes.length != 2 || j.probes.some(p => p.questions != 5 || p.chance != 0.25 || p.low > p.accuracy || p.high < p.accuracy)) throw "probes";
  if (!(j.texts[0].next_byte_accuracy > 0)) throw "next bytes";
' || fail "what eval prints: $(cat eval.json)"
$moiety eval "runs/lr=0,seed=1" --probes copy --questions 40 --seed 3 --shots 1 --json > one.json && \
  $moiety eval "runs/lr=0,seed=1" --probes recall,copy --questions 40 --seed 3 --shots 1 --threads 1 --json > two.json || fail "probes"
right='console.log(JSON.parse(require("fs").readFileSync(0)).probes.find(p => p.probe == "copy").right)'
[[ $(node -e "$right" < one.json) == "$(node -e "$right" < two.json)" ]] || fail "the same questions got other answers"
$moiety eval "runs/lr=0,seed=1" --probes spelling > out 2> err && fail "a probe that is none passes"

echo "sweeps, reports and probes agree"
