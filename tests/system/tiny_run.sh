# To be sourced by a test that trains: fail(), a folder of its own to be in, text, and tiny.toml, a run of a second.
moiety=$1
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$folder"' EXIT
cd "$folder"
fail() { echo "FAILED: $*"; exit 1; }

$moiety corpus --synthetic copy,recall text --synthetic-mb 0.05 || fail "synthetic text"
cat > tiny.toml << 'TOML'
[[domain]]
name = "copy"
train = "text/copy.train.txt"
valid = "text/copy.valid.txt"
[[domain]]
name = "recall"
train = "text/recall.train.txt"
valid = "text/recall.valid.txt"
[tokenizer]
vocab_size = 300
[model]
layers = 2
width = 32
heads = 2
kv_heads = 1
head_dim = 16
experts = 8
expert_hidden = 32
[optimizer]
lr = 0.004
[schedule]
warmup = 2
[train]
steps = 8
sequence = 64
batch = 5
accumulate = 2
[validate]
every = 4
[checkpoint]
minutes = 0
[run]
threads = 1
TOML
