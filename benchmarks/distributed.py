#!/usr/bin/env python3
"""Experts spread over two ranks, with links so slow that unhidden exchanges take a given share of the step: chunked against sequential.

  benchmarks/distributed.py build/release/bin/moiety [--share 0.45] [--chunks 2,4,8] [--rounds 3] [--steps 12]

Each rank is a process of one thread in a network namespace of its own (needs root); a token bucket shapes the link between them. The rate is
found first: steps over an unshaped link take the time of all but the wire, and what travels is known, so the rate is what makes
waiting --share of the sequential step. Then ways take turns, round after round; a run's time is the median of its steps without the first
few, a way's the median of its rounds. Perfect overlap would take the longer of computing and waiting.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

CONFIG = """
[[domain]]
name = "copy"
train = "text/copy.train.txt"
valid = "text/copy.valid.txt"
[tokenizer]
vocab_size = 300
[model]
layers = 2
width = 256
heads = 2
kv_heads = 1
head_dim = 32
experts = 16
experts_per_token = 2
expert_hidden = 512
[optimizer]
lr = 0.001
[train]
sequence = 64
batch = 64
[ranks]
experts = 2
[validate]
batches = 1
[checkpoint]
minutes = 0
keep = 1
[run]
threads = 1
"""
SKIPPED = 3  # first steps of a run
NAMES = ["moiety0", "moiety1"]


def sh(command):
    subprocess.run(command, shell=True, check=True)


class Link:
    """Two namespaces, 10.77.0.1 and 10.77.0.2, with a veth pair between them."""

    def __enter__(self):
        self.down()
        for name in NAMES:
            sh(f"ip netns add {name}")
        sh(f"ip link add link0 netns {NAMES[0]} type veth peer name link0 netns {NAMES[1]}")
        for i, name in enumerate(NAMES):
            sh(f"ip -n {name} link set lo up; ip -n {name} addr add 10.77.0.{i + 1}/24 dev link0; ip -n {name} link set link0 up")
        return self

    def __exit__(self, *_):
        self.down()

    def down(self):
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    def shape(self, bytes_a_second):
        for name in NAMES:
            subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", "link0", "root"], stderr=subprocess.DEVNULL)
            if bytes_a_second:
                rate = int(bytes_a_second * 8)
                sh(f"tc -n {name} qdisc add dev link0 root tbf rate {rate} burst 256kb latency 50ms")

    def sent(self):
        """Bytes on the wire so far, the larger of both ways."""
        def of(name):
            out = subprocess.check_output(["ip", "-n", name, "-s", "-j", "link", "show", "link0"])
            return json.loads(out)[0]["stats64"]["tx"]["bytes"]
        return max(of(name) for name in NAMES)


class Runs:
    def __init__(self, moiety, folder, link, steps):
        self.moiety, self.folder, self.link, self.steps, self.count = moiety, folder, link, steps, 0

    def once(self, chunks):
        """Seconds of each step, and bytes a step."""
        self.count += 1
        run = f"run{self.count}"
        words = [self.moiety, "train", "bench.toml"]
        for setting in (f'run.dir="{run}"', f"ranks.chunks={chunks}", f"train.steps={self.steps}"):
            words += ["--set", setting]
        before, ranks = self.link.sent(), []
        for rank, name in enumerate(NAMES):
            # A rank listens where its machine's name leads.
            hosts = f"{self.folder}/hosts{rank}"
            with open(hosts, "w") as file:
                file.write(f"127.0.0.1 localhost\n10.77.0.{rank + 1} {name}\n")
            variables = dict(os.environ, RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="1", MASTER_ADDR="10.77.0.1", MASTER_PORT="29511")
            inside = ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c",
                      f'hostname {name} && mount --bind {hosts} /etc/hosts && exec "$@"', "rank"]
            ranks.append(subprocess.Popen(inside + words, cwd=self.folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for rank in ranks:
            _, errors = rank.communicate()
            if rank.returncode != 0:
                raise SystemExit(f"a rank failed: {errors[-600:]}")
        with open(f"{self.folder}/{run}/metrics.jsonl") as lines:
            seconds = [line["seconds"] for line in map(json.loads, lines) if "loss" in line]
        return statistics.median(seconds[SKIPPED:]), (self.link.sent() - before) / self.steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--share", type=float, default=0.45, help="of the sequential step that waits for exchanges")
    parser.add_argument("--chunks", default="2,4,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    ways = [1] + [int(chunks) for chunks in arguments.chunks.split(",")]
    moiety = os.path.abspath(arguments.moiety)
    with tempfile.TemporaryDirectory() as folder, Link() as link:
        subprocess.run([moiety, "corpus", "--synthetic", "copy", "text", "--synthetic-mb", "0.5"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with open(f"{folder}/bench.toml", "w") as file:
            file.write(CONFIG)
        runs = Runs(moiety, folder, link, arguments.steps)
        link.shape(None)
        runs.once(1)  # warm
        computing, size = runs.once(1)
        waiting = computing * arguments.share / (1 - arguments.share)
        rate = size / waiting
        print(f"computing {computing * 1e3:.0f} ms a step; {size / 1e6:.1f} MB each way; a link of {rate * 8 / 1e6:.0f} Mbit/s is {waiting * 1e3:.0f} ms")
        link.shape(rate)
        seconds = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way in ways:
                seconds[way].append(runs.once(way)[0])
        link.shape(None)
        computing = min(computing, runs.once(1)[0])
        sequential = statistics.median(seconds[1])
        waiting = sequential - computing
        perfect = max(computing, waiting)
        print(f"sequential {sequential * 1e3:.0f} ms, of which {waiting / sequential:.0%} waits; perfect overlap {perfect * 1e3:.0f} ms, {sequential / perfect:.2f} x")
        print(f"{'chunks':>8} {'ms a step':>10} {'x':>6} {'of perfect speed':>17} {'of the gain':>12}")
        for way in ways:
            step = statistics.median(seconds[way])
            gain = (sequential - step) / (sequential - perfect)
            print(f"{way:>8} {step * 1e3:>10.0f} {sequential / step:>6.2f} {perfect / step:>17.0%} {gain:>12.0%}")


if __name__ == "__main__":
    main()
