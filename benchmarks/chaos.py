#!/usr/bin/env python3
"""Kills, stops, adds and retires ranks of a run, at random and as long as asked, and holds its losses to those of an undisturbed run.

    benchmarks/chaos.py build/release/bin/moiety --events 100 [--ranks 4] [--experts 4] [--kinds kill,stop,add,retire,slow] [--seed 1] [--drift] [--plot FILE.svg]

"slow" lets a rank run a third of the time until it is named. Prints how long ranks took to notice a loss (from the signal on), to meet, to have the state again, and to end their first step, and whether a step
was lost. Everything is in a folder of its own, which is removed. Needs python3 and nothing else.
"""
import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from training import TEXT, make_text, steps_of

TINY = TEXT + """[model]
layers = 2
width = 64
heads = 2
kv_heads = 1
head_dim = 32
experts = 8
expert_hidden = 64
[optimizer]
lr = 0.0005
[schedule]
warmup = 20
[train]
steps = 100000
sequence = 64
batch = 12
accumulate = 2
[checkpoint]
minutes = 0
"""


class Job:
    def __init__(self, moiety, run, ranks, more):
        self.moiety, self.run = moiety, run
        self.log = open(f"{run}.log", "w")
        settings = [word for setting in more for word in ("--set", setting)]
        self.process = subprocess.Popen([moiety, "train", "run.toml", "--set", f"run.dir={run}", *settings, "--ranks", str(ranks), "--elastic", "2"],
                                        stdout=subprocess.DEVNULL, stderr=self.log)

    def tell(self, *request):
        answer = subprocess.run([self.moiety, "train", "ctl", self.run, *request], capture_output=True, text=True)
        return answer.stdout if answer.returncode == 0 else None

    def workers(self):
        said = self.tell("status")
        return [worker for worker in json.loads(said)["workers"] if "rank" in worker] if said else []

    def steps(self):
        return len(steps_of(self.run))

    def wait_for(self, ready, seconds, what):
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{what} did not happen; {self.run}.log:\n" + open(f"{self.run}.log").read()[-2000:])
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def regroups(run):
    return [line["regrouped"] for line in steps_of(run) if "regrouped" in line]


def slow_down(job, victim):
    """Steps until the rank is named, and what with."""
    began, read = job.steps(), os.path.getsize(f"{job.run}.log")
    name = f"rank {victim['rank']} is slow"
    end = time.monotonic() + 60
    while True:
        os.kill(victim["pid"], signal.SIGSTOP)
        time.sleep(0.02)
        os.kill(victim["pid"], signal.SIGCONT)
        time.sleep(0.01)
        with open(f"{job.run}.log", errors="replace") as log:
            log.seek(read)
            said = re.search(f"step +([0-9]+) +.*{name}[^;]*(; [a-z]+ takes)?", log.read())
        if said:
            return int(said[1]) - began, said[0]
        if time.monotonic() > end:
            sys.exit(f"{name}: nobody said so")


def disturb(job, args, chance):
    """Does something to the job, and waits until it goes on. Returns (kind, when), or of what became slow (kind, steps until it was named)."""
    workers = job.workers()
    kinds = [kind for kind in args.kinds.split(",") if not (kind == "add" and len(workers) > args.ranks) and not (kind != "add" and len(workers) < 3)]
    kind = chance.choice(kinds) if kinds else "add"
    before = len(regroups(job.run))
    victim = chance.choice(workers)
    at = time.monotonic()
    if kind == "slow":
        steps, said = slow_down(job, victim)
        print(f"\n{said}", file=sys.stderr)
        settled = job.steps() + 30
        job.wait_for(lambda: job.steps() >= settled, 60, "going on after slowness")
        return kind, steps
    if kind == "kill":
        os.kill(victim["pid"], signal.SIGKILL)
    elif kind == "stop":
        os.kill(victim["pid"], signal.SIGSTOP)
    elif kind == "add":
        job.tell("add")
    else:
        job.tell("retire", str(victim["worker"]))
    job.wait_for(lambda: len(regroups(job.run)) > before, 60, f"going on after {kind}")
    if len(job.workers()) < args.ranks and "add" not in args.kinds:
        before = len(regroups(job.run))
        job.tell("add")
        job.wait_for(lambda: len(regroups(job.run)) > before, 60, "the lost one's successor")
    return kind, at


def steps_of_calm(moiety, run, ranks, settings, steps):
    calm = Job(moiety, run, ranks, settings)
    calm.wait_for(lambda: calm.steps() >= steps, 3600, f"the run {run}")
    calm.stop()
    return steps_of(run)[:steps]


def difference(some, others):
    """Of losses, as shares of the others'."""
    apart = [abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(some, others)]
    first = next((step for step, each in enumerate(apart, 1) if each > 1e-4), None)
    beyond = f"within 1e-4 until step {first - 1}" if first else "always within 1e-4"
    return f"a loss differs by {max(apart):.1e} at most, the last by {apart[-1]:.1e}; {beyond}"


def row(name, seconds):
    if seconds:
        ordered = sorted(seconds)
        print(f"| {name} | {statistics.median(ordered) * 1000:.0f} | {ordered[int(0.95 * (len(ordered) - 1))] * 1000:.0f} | {ordered[-1] * 1000:.0f} |")


def plot(file, calm, disturbed, marks):
    wide, high = 900, 360
    losses = [line["loss"] for line in calm + disturbed]
    low, top, steps = min(losses), max(losses), len(calm)
    place = lambda step, loss: f"{40 + step / steps * (wide - 60):.1f},{high - 30 - (loss - low) / (top - low) * (high - 60):.1f}"
    curve = lambda lines: " ".join(place(line["step"], line["loss"]) for line in lines)
    with open(file, "w") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">'
                  f'<rect width="{wide}" height="{high}" fill="white"/>')
        for step in marks:
            out.write(f'<line x1="{40 + step / steps * (wide - 60):.1f}" x2="{40 + step / steps * (wide - 60):.1f}" y1="30" y2="{high - 30}" stroke="#ddd"/>')
        out.write(f'<polyline points="{curve(calm)}" fill="none" stroke="#1f77b4" stroke-width="4" opacity="0.4"/>'
                  f'<polyline points="{curve(disturbed)}" fill="none" stroke="#d62728" stroke-width="1"/>'
                  f'<text x="40" y="20">loss by step: undisturbed (blue), with ranks lost and come at the grey lines (red); {top:.2f} to {low:.2f}</text>'
                  f'<text x="40" y="{high - 8}">0</text><text x="{wide - 60}" y="{high - 8}">{steps} steps</text></svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--experts", type=int, default=1)
    parser.add_argument("--kinds", default="kill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drift", action="store_true", help="how far another undisturbed run, of one rank less, is from the first")
    parser.add_argument("--plot")
    args = parser.parse_args()
    moiety, chance = os.path.abspath(args.moiety), random.Random(args.seed)
    plot_to = args.plot and os.path.abspath(args.plot)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_text(moiety, folder, 0.2)
        open("run.toml", "w").write(TINY)
        more = [f"ranks.experts={args.experts}", "run.threads=1"]
        job = Job(moiety, "disturbed", args.ranks, more)
        job.wait_for(lambda: job.steps() >= 5, 120, "the first steps")
        signals = []
        for number in range(args.events):
            time.sleep(chance.uniform(0.1, 0.8))
            signals.append(disturb(job, args, chance))
            print(f"\r{number + 1} of {args.events}: {signals[-1][0]}, {job.steps()} steps   ", end="", file=sys.stderr)
        job.stop()
        print(file=sys.stderr)
        disturbed = steps_of("disturbed")
        steps = len(disturbed)
        assert [line["step"] for line in disturbed] == list(range(1, steps + 1)), "a step is missing or twice there"
        again = regroups("disturbed")
        counts = {kind: sum(1 for each, _ in signals if each == kind) for kind in sorted({kind for kind, _ in signals})}
        print(f"{steps} steps, {len(again)} generations, {counts}; no step lost\n")
        named = [steps for each, steps in signals if each == "slow"]
        if named:
            print(f"a rank that runs a third of the time is named after {statistics.median(named):.0f} steps (median), {max(named)} (most)\n")
        print("| milliseconds | median | 95 % | most |\n| --- | --- | --- | --- |")
        for kind, what in (("kill", "killed, until the others have left"), ("stop", "stopped, until the others have left")):
            noticed = []
            for each, at in signals:
                left = [g["left_at"] - at for g in again if g["left_at"] > at and "signal 9" in g["why"]]
                if each == kind and left:
                    noticed.append(min(left))
            row(what, noticed)
        row("new groups", [g["regroup"] for g in again])
        row("state restored", [g["restore"] for g in again])
        row("first step", [g["step"] for g in again])
        sys.stdout.flush()
        undisturbed = steps_of_calm(moiety, "calm", args.ranks, more, steps)
        print(f"\nfrom the undisturbed run: {difference(disturbed, undisturbed)}")
        if args.drift:
            others = steps_of_calm(moiety, "other", args.ranks - 1, more, steps)
            print(f"an undisturbed run of {args.ranks - 1} ranks from it: {difference(others, undisturbed)}")
        if plot_to:
            plot(plot_to, undisturbed, disturbed, [g["from_step"] for g in again])


if __name__ == "__main__":
    main()
