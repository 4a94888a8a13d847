#!/usr/bin/env python3
"""Kills a run, tears its files and fills its disk, at random and as often as asked, and holds what it goes on to do to an undisturbed run.

    benchmarks/disk_chaos.py build/release/bin/moiety --cycles 1000 [--kinds kill,torn,full] [--ranks 1] [--steps-a-cycle 6] [--seed 1]

A cycle starts the run again and kills all of it with SIGKILL after a random time. Before it, with "torn", a file of the newest checkpoint is cut
or one of its bits turned, and the run must go on from the one before; with "full" the disk is filled while the run writes, which must end neither
the run nor the checkpoints that are there. At the end every step's loss and the last model must be those of the undisturbed run, to the bit.
Everything is in a folder of its own, which is removed. "full" mounts a small disk in memory, in a namespace of its own, and needs root for it, or
user namespaces. Needs python3 and nothing else.
"""
import argparse
import glob
import os
import pathlib
import random
import shutil
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
[train]
sequence = 64
batch = 4
[checkpoint]
minutes = 0
every = 1
[run]
threads = 1
"""
DISK = 40  # MiB; a checkpoint has some 3


logs = "."


def start(moiety, run, steps, ranks):
    several = ["--ranks", str(ranks)] if ranks > 1 else []
    return subprocess.Popen([moiety, "train", "run.toml", "--set", f"run.dir={run}", "--set", f"train.steps={steps}", *several], start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=open(f"{logs}/{run}.log", "w"))


def finish(moiety, run, steps, ranks):
    status = start(moiety, run, steps, ranks).wait(timeout=600)
    if status != 0:
        sys.exit(f"{run}: ended with {status}: {open(f'{logs}/{run}.log').read()[-2000:]}")


def checkpoints(run):
    return sorted(glob.glob(f"{run}/checkpoints/step-*"))


def number(checkpoint):
    return int(checkpoint.rsplit("-", 1)[1])


def tear(checkpoint, chance):
    """Of one of its files a bit is turned or the end is gone."""
    path = chance.choice(glob.glob(f"{checkpoint}/*"))
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if chance.random() < 0.5:
            file.truncate(chance.randrange(size))
            return
        at = chance.randrange(size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def fill(path):
    """Until nothing more fits."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


def on_small_disk():
    """Runs this again where the temporary folder is a small disk; what runs say is kept outside."""
    folder, outside = tempfile.mkdtemp(), tempfile.mkdtemp()
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    inside = f'mount -t tmpfs -o size={DISK}m moiety "$0" && TMPDIR="$0" exec "$@"'
    status = subprocess.run([*unshare, "sh", "-c", inside, folder, sys.executable, *sys.argv, "--inside", outside]).returncode
    shutil.rmtree(outside)
    os.rmdir(folder)
    sys.exit(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--kinds", default="kill,torn,full")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps-a-cycle", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    if "full" in kinds and not args.inside:
        on_small_disk()
    global logs
    logs = args.inside or logs
    moiety, chance = os.path.abspath(args.moiety), random.Random(args.seed)
    steps = 3 * args.cycles * args.steps_a_cycle
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_text(moiety, folder, 0.2)
        open("run.toml", "w").write(TINY)
        counts, redone, dropped = dict.fromkeys(kinds, 0), [], 0
        for cycle in range(args.cycles):
            kind = chance.choice(kinds)
            found = checkpoints("disturbed")
            if kind == "torn" and len(found) > 1:
                tear(found.pop(), chance)
            done = len(steps_of("disturbed"))
            wanted = done + chance.randint(1, 2 * args.steps_a_cycle)
            process = start(moiety, "disturbed", steps, args.ranks)
            until = time.time() + 120
            ballast = None
            while len(steps_of("disturbed")) < wanted and process.poll() is None and time.time() < until:
                if kind == "full" and ballast is None and len(steps_of("disturbed")) > done:
                    ballast = "ballast"
                    fill(ballast)
                    time.sleep(chance.random() * 0.5)
                    if chance.random() < 0.5:  # killed while there is no room
                        break
                    os.remove(ballast)
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            said = open(f"{logs}/disturbed.log").read()
            ended_without_room = kind == "full" and process.returncode == 1 and "No space left" in said and len(steps_of("disturbed")) == steps
            if process.returncode not in (0, -signal.SIGKILL) and not ended_without_room:
                sys.exit(f"cycle {cycle}, {kind}: the run ended with {process.returncode}: {said[-2000:]}")
            if ballast:
                pathlib.Path(ballast).unlink(missing_ok=True)
                dropped += said.count("could not be written")
            if found and (not checkpoints("disturbed") or number(checkpoints("disturbed")[-1]) < number(found[-1])):
                sys.exit(f"cycle {cycle}, {kind}: checkpoints are lost: {found} became {checkpoints('disturbed')}")
            counts[kind] += 1
            redone.append(len(steps_of("disturbed")) - (number(checkpoints("disturbed")[-1]) if checkpoints("disturbed") else 0))
            if process.returncode == 0:
                break
            print(f"{cycle + 1} of {args.cycles}: {kind}, {len(steps_of('disturbed'))} steps   ", end="\r" if sys.stdout.isatty() else "\n", flush=True)
        finish(moiety, "disturbed", steps, args.ranks)
        finish(moiety, "calm", steps, args.ranks)
        told = [[(line["step"], line["loss"], line["grad_norm"]) for line in steps_of(run)] for run in ("disturbed", "calm")]
        models = [open(f"{checkpoints(run)[-1]}/model.safetensors", "rb").read() for run in ("disturbed", "calm")]
        print(f"\n{sum(counts.values())} cycles ({', '.join(f'{n} {kind}' for kind, n in counts.items())}), {steps} steps; {dropped} checkpoints found no room; "
              f"steps done again: median {statistics.median(redone):.0f}, most {max(redone)}")
        if told[0] != told[1] or models[0] != models[1]:
            sys.exit("the disturbed run's losses or weights are not those of the undisturbed one")
        print("every loss, gradient norm and weight is that of a run that nobody disturbed, to the bit")


if __name__ == "__main__":
    main()
