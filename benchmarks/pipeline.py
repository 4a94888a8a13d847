#!/usr/bin/env python3
"""A pipeline of two stages, one thread each, by the micro-batches of a step: how long its steps are, and what share of them ranks wait.

  benchmarks/pipeline.py build/release/bin/moiety [--accumulate 2,4,8] [--virtual 1,2] [--steps 40]

Beside it one process of one thread, and the share that is published: of M micro-batches through two stages of V chunks 1 / (V M + 1). Layers
are alike and the vocabulary is small, so that stages are equally long. Medians of the last half of the steps; waiting by metrics.jsonl's `ranks`,
whose means are of the last 20.
"""
import argparse
import os
import statistics
import subprocess
import tempfile

from training import TEXT, make_text, steps_of

CONFIG = TEXT + """[model]
layers = 8
width = 128
heads = 4
kv_heads = 2
head_dim = 32
experts = 8
experts_per_token = 2
expert_hidden = 192
[optimizer]
lr = 0.001
[train]
sequence = 256
batch = 2
[validate]
batches = 1
[checkpoint]
minutes = 0
keep = 1
[run]
threads = 1
"""


def lines_of(moiety, name, settings, ranks):
    command = [moiety, "train", "config.toml", "--set", f"run.dir={name}"]
    for setting in settings:
        command += ["--set", setting]
    command += ["--ranks", str(ranks)] if ranks > 1 else []
    subprocess.run(command, check=True, capture_output=True)
    return steps_of(name)


def median_ms(lines):
    return 1e3 * statistics.median(line["seconds"] for line in lines[len(lines) // 2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--accumulate", default="2,4,8")
    parser.add_argument("--virtual", default="1,2")
    parser.add_argument("--steps", type=int, default=40, help="a multiple of 20")
    args = parser.parse_args()
    moiety = os.path.abspath(args.moiety)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_text(moiety, folder, 1)
        with open("config.toml", "w") as file:
            file.write(CONFIG)
        print("| micro-batches | virtual | ms a step | against one process | waited, by rank | published bubble |\n| --- | --- | --- | --- | --- | --- |")
        for passes in map(int, args.accumulate.split(",")):
            settings = [f"train.accumulate={passes}", f"train.steps={args.steps}"]
            alone = median_ms(lines_of(moiety, f"one-{passes}", settings, 1))
            for chunks in map(int, args.virtual.split(",")):
                lines = lines_of(moiety, f"two-{passes}-{chunks}", settings + ["ranks.stages=2", f"ranks.virtual={chunks}"], 2)
                ranks = [line["ranks"] for line in lines if "ranks" in line][-1]
                waited = ", ".join(f"{100 * wait / whole:.0f} %" for wait, whole in zip(ranks["waited"], ranks["seconds"]))
                ms = median_ms(lines)
                print(f"| {passes} | {chunks} | {ms:.0f} | {alone / ms:.2f} x | {waited} | {100 / (chunks * passes + 1):.0f} % |", flush=True)


if __name__ == "__main__":
    main()
