#!/usr/bin/env python3
"""Experts spread over ranks, with links so slow that unhidden exchanges take a given share of the step: chunked against sequential; or, with
--skew, experts by Zipf's law: static expert parallelism against experts that change ranks after ten steps, borrowed experts, and both.

  benchmarks/distributed.py build/release/bin/moiety [--share 0.45] [--chunks 2,4,8] [--rounds 3] [--steps 12]
  benchmarks/distributed.py build/release/bin/moiety --skew 1.2 [--ranks 2] [--mbit 1000] [--flops-a-byte 1000] [--batch 64] [--rounds 3]

Each rank is a process of one thread in a network namespace of its own (needs root); a token bucket shapes the link between them. The rate is
found first: steps over an unshaped link take the time of all but the wire, and what travels is known, so the rate is what makes
waiting --share of the sequential step. Then ways take turns, round after round; a run's time is the median of its steps without the first
few, a way's the median of its rounds. Perfect overlap would take the longer of computing and waiting.

--skew S: tokens choose by the hash gate, one expert each, in a model of one MoE layer, and the text is made so that expert i, from 1, gets a share
proportional to i ** -S: hot experts are neighbours, all on rank 0, which is the worst case for a static placement. Times are means over steps 21 to
40, by rank: of the whole step, and processor time, with what exchanges cost the processor. Ranks that share a processor wait for it, too, so that only
the latter says how long the slowest would take with one of its own.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time

from training import TEXT, make_text, steps_of

CONFIG = TEXT + """[model]
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
VOCABULARY, EXPERTS = 257, 16  # bytes and the end of a text
WAYS = {"static": {}, "moved": {"ranks.rebalance": 10}, "hot": {"ranks.lend": '"hot"'}, "moved, hot": {"ranks.rebalance": 10, "ranks.lend": '"hot"'}, "all": {"ranks.lend": '"all"'}}
# What --skew changes.
SKEWED = {"model.layers": 1, "model.gate": '"hash"', "model.experts_per_token": 1, "model.expert_hidden": 1024, "tokenizer.vocab_size": VOCABULARY,
          "balance.aux_loss": 0, "balance.z_loss": 0, "train.steps": 40}


def sh(command):
    subprocess.run(command, shell=True, check=True)


class Link:
    """Namespaces, 10.77.0.1 and on, each with a veth pair to a bridge in one more."""

    def __init__(self, ranks):
        self.names, self.bridge = [f"moiety{rank}" for rank in range(ranks)], "moietybridge"

    def __enter__(self):
        self.down()
        sh(f"ip netns add {self.bridge} && ip -n {self.bridge} link add bridge type bridge && ip -n {self.bridge} link set bridge up")
        for i, name in enumerate(self.names):
            sh(f"ip netns add {name}")
            sh(f"ip link add link0 netns {name} type veth peer name port{i} netns {self.bridge}")
            sh(f"ip -n {self.bridge} link set port{i} master bridge up")
            sh(f"ip -n {name} link set lo up; ip -n {name} addr add 10.77.0.{i + 1}/24 dev link0; ip -n {name} link set link0 up")
        return self

    def __exit__(self, *_):
        self.down()

    def down(self):
        for name in [*self.names, self.bridge]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    def shape(self, bytes_a_second):
        for name in self.names:
            subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", "link0", "root"], stderr=subprocess.DEVNULL)
            if bytes_a_second:
                rate = int(bytes_a_second * 8)
                sh(f"tc -n {name} qdisc add dev link0 root tbf rate {rate} burst 256kb latency 50ms")

    def sent(self):
        """Bytes on the wire so far, the most that a rank sent."""
        def of(name):
            out = subprocess.check_output(["ip", "-n", name, "-s", "-j", "link", "show", "link0"])
            return json.loads(out)[0]["stats64"]["tx"]["bytes"]
        return max(of(name) for name in self.names)


class Runs:
    def __init__(self, moiety, folder, link, steps):
        self.moiety, self.folder, self.link, self.steps, self.count = moiety, folder, link, steps, 0

    def once(self, chunks):
        """Seconds of a step, and bytes a step."""
        before = self.link.sent()
        lines = self.run({"ranks.chunks": chunks, "train.steps": self.steps})
        return statistics.median([line["seconds"] for line in lines][SKIPPED:]), (self.link.sent() - before) / self.steps

    def run(self, settings, timed=None):
        """Its steps' lines of metrics; of steps `timed`, behind the first and to the last, self.processor is each rank's processor time a step."""
        self.count += 1
        run = f"run{self.count}"
        words = [self.moiety, "train", "bench.toml"]
        for key, value in {**settings, "run.dir": f'"{run}"', "ranks.experts": len(self.link.names)}.items():
            words += ["--set", f"{key}={value}"]
        ranks = []
        for rank, name in enumerate(self.link.names):
            # A rank listens where its machine's name leads.
            hosts = f"{self.folder}/hosts{rank}"
            with open(hosts, "w") as file:
                file.write(f"127.0.0.1 localhost\n10.77.0.{rank + 1} {name}\n")
            variables = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(len(self.link.names)), LOCAL_WORLD_SIZE="1", MASTER_ADDR="10.77.0.1", MASTER_PORT="29511")
            inside = ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-c",
                      f'hostname {name} && mount --bind {hosts} /etc/hosts && exec "$@"', "rank"]
            ranks.append(subprocess.Popen(inside + words, cwd=self.folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        if timed:
            at = [self.processor_at(f"{self.folder}/{run}/metrics.jsonl", step, ranks) for step in timed]
            self.processor = [(end - begin) / (timed[1] - timed[0]) for begin, end in zip(*at)]
        for rank in ranks:
            _, errors = rank.communicate()
            if rank.returncode != 0:
                raise SystemExit(f"a rank failed: {errors[-600:]}")
        return steps_of(f"{self.folder}/{run}")


    @staticmethod
    def processor_at(metrics, step, ranks):
        """Seconds of processor time that each rank has had when this step is told."""
        def is_told():
            if any(rank.poll() is not None for rank in ranks):
                return True
            try:
                with open(metrics) as file:
                    return any(f'"step":{step},' in line for line in file)
            except FileNotFoundError:
                return False
        while not is_told():
            time.sleep(0.005)
        def of(rank):
            with open(f"/proc/{rank.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return [of(rank) for rank in ranks]


class Random:
    """As base/random.h draws."""

    def __init__(self, seed, stream):
        self.key = self.mix(seed + 0x9E3779B97F4A7C15 * (stream + 1)) ^ self.mix(stream + 0xD1B54A32D192ED03)
        self.counter = 0

    @staticmethod
    def mix(z):
        z %= 1 << 64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % (1 << 64)
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % (1 << 64)
        return z ^ (z >> 31)

    def below(self, bound):
        self.counter += 1
        return self.mix(self.key + 0x9E3779B97F4A7C15 * self.counter) * bound >> 64


def hashed_experts():
    """Of each token of the vocabulary, in layer 0: moe::hashed_experts, one a token."""
    order, draw = list(range(VOCABULARY)), Random(0, 0)
    for i in range(VOCABULARY - 1, 0, -1):
        j = draw.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return {token: i % EXPERTS for i, token in enumerate(order)}


def write_skewed(path, tokenizer, skew, characters=400_000):
    with open(tokenizer) as file:
        vocabulary = json.load(file)["model"]["vocab"]
    expert_of, letters = hashed_experts(), [[] for _ in range(EXPERTS)]
    for letter in map(chr, range(33, 127)):
        letters[expert_of[vocabulary[letter]]].append(letter)
    draw = random.Random(1)
    experts = draw.choices(range(EXPERTS), [(1 + i) ** -skew for i in range(EXPERTS)], k=characters)
    with open(path, "w") as file:
        file.writelines(draw.choice(letters[expert]) + ("\n" if i % 4096 == 4095 else "") for i, expert in enumerate(experts))


def compare_skewed(runs, folder, arguments):
    """Ways take turns."""
    for part in ("train", "valid"):
        with open(f"{folder}/text/skewed.{part}.txt", "w") as file:
            file.write("".join(map(chr, range(33, 127))) * 2000)
    runs.run({**SKEWED, "train.steps": 1})
    for part in ("train", "valid"):
        write_skewed(f"{folder}/text/skewed.{part}.txt", f"{folder}/run1/tokenizer.json", arguments.skew)
    runs.link.shape(arguments.mbit * 1e6 / 8)
    ways = {way: [] for way in arguments.ways.split(";")}
    for _ in range(arguments.rounds):
        for way, found in ways.items():
            lines = runs.run({**SKEWED, **WAYS[way], "train.batch": arguments.batch, "ranks.flops_a_byte": arguments.flops_a_byte}, timed=(20, 40))
            moves = [line for line in lines if "rehomed" in line]
            if moves:
                print(f"{way}: " + ", ".join(f"after step {line['step']} {line['rehomed']}" for line in moves), flush=True)
            found.append({**lines[-1], "processor": runs.processor})
    print(f"{len(runs.link.names)} ranks, links of {arguments.mbit:g} Mbit/s")
    print(f"{'way':>10} {'step, ms':>9} {'x':>6} {'busiest, ms':>12} {'x':>6} {'MB sent by one':>15}  processor time by rank, ms; skew and loss")
    first = None
    for way, found in ways.items():
        step = statistics.median(max(line["ranks"]["seconds"]) for line in found)
        busy = [statistics.median(line["processor"][r] for line in found) for r in range(len(runs.link.names))]
        sent = max(sum(row) for row in found[0]["ranks"]["bytes"]) / 1e6
        first = first or (step, max(busy))
        print(f"{way:>10} {step * 1e3:>9.0f} {first[0] / step:>6.2f} {max(busy) * 1e3:>12.0f} {first[1] / max(busy):>6.2f} {sent:>15.1f}  "
              + " ".join(f"{b * 1e3:.0f}" for b in busy) + f"; {found[0]['load'][0]['max_over_mean']:.2f} x the mean, loss {found[0]['loss']:.5f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--share", type=float, default=0.45, help="of the sequential step that waits for exchanges")
    parser.add_argument("--chunks", default="2,4,8")
    parser.add_argument("--skew", type=float, help="Zipf's exponent")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--mbit", type=float, default=1000)
    parser.add_argument("--flops-a-byte", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64, help="sequences of 64 tokens a step, with --skew")
    parser.add_argument("--ways", default=";".join(WAYS), help="with --skew")
    arguments = parser.parse_args()
    ways = [1] + [int(chunks) for chunks in arguments.chunks.split(",")]
    moiety = os.path.abspath(arguments.moiety)
    with tempfile.TemporaryDirectory() as folder, Link(arguments.ranks) as link:
        make_text(moiety, folder, 0.5)
        with open(f"{folder}/bench.toml", "w") as file:
            file.write(CONFIG.replace("text/copy", "text/skewed") if arguments.skew else CONFIG)
        runs = Runs(moiety, folder, link, arguments.steps)
        if arguments.skew:
            return compare_skewed(runs, folder, arguments)
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
