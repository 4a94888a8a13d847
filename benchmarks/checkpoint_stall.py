#!/usr/bin/env python3
"""What checkpoints cost a run: how long training stands still for one, and how much longer the steps beside which it is written take.

    benchmarks/checkpoint_stall.py build/release/bin/moiety [--steps 120] [--every 10] [--rounds 3] [--set KEY=VALUE ...]

By default a model of 16 million parameters of which a token visits 4, with 4096 tokens a step. Runs with and without checkpoints take turns.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

from training import TEXT, make_text, steps_of

MODEL = TEXT.replace("300", "4096") + """[model]
layers = 6
width = 192
heads = 6
kv_heads = 3
head_dim = 32
experts = 16
experts_per_token = 2
expert_hidden = 256
tied_embeddings = true
[train]
sequence = 256
batch = 16
precision = "bf16"
[validate]
every = 0
batches = 1
[checkpoint]
minutes = 0
"""
SKIPPED = 10  # steps, whose memory is new


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    moiety = os.path.abspath(args.moiety)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_text(moiety, folder, 1)
        open("run.toml", "w").write(MODEL)

        def run(name, *settings):
            words = [word for setting in [*args.set, f"run.dir={name}", f"train.steps={args.steps}", *settings] for word in ("--set", setting)]
            done = subprocess.run([moiety, "train", "run.toml", "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            return json.loads(done.stdout), [line["seconds"] for line in steps_of(name)]

        stalls, with_them, without = [], [], []
        for i in range(args.rounds):
            _, calm = run(f"calm{i}")
            told, steps = run(f"busy{i}", f"checkpoint.every={args.every}")
            stalls.append(told["checkpoints"]["stalled_seconds"] / told["checkpoints"]["written"])
            without += calm[SKIPPED:]
            with_them += steps[SKIPPED:]
        size = sum(os.path.getsize(file) for file in os.scandir(told["checkpoint"]))
        step, busy = statistics.median(without), statistics.fmean(with_them)
        print(f"a checkpoint of {size / 1e6:.0f} MB every {args.every} steps; a step without any {1e3 * step:.1f} ms (median), {1e3 * statistics.fmean(without):.1f} (mean)")
        print(f"training stood still {1e3 * statistics.median(stalls):.2f} ms for one: {100 * statistics.median(stalls) / step:.2f} % of a step")
        print(f"steps beside them {1e3 * busy:.1f} ms (mean): {100 * (busy / statistics.fmean(without) - 1):+.2f} %")


if __name__ == "__main__":
    main()
