#!/usr/bin/env python3
"""Holds a run of mixed load to its memory budget.

moiety bench goes round and round through prompts of several lengths and batches of several sizes at two depths, with experts
read from the disk, while the process's memory is looked at ten times a second. Says the most it held, as a share of the budget, and
how much more it held in the last quarter of the time than in the second.

    benchmarks/soak.py build/release/bin/moiety model.gguf --memory 1200MiB --minutes 30
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import time

UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(text):
    match = re.fullmatch(r"([0-9.]+)\s*([kmg]i?)?b?", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: expected an amount such as 6GiB or 800MB")
    return int(float(match[1]) * UNITS[match[2] or ""])


def held(pid):
    """Bytes that a process holds now, and the most that it ever held; pinned memory is part of both."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("model")
    parser.add_argument("--memory", type=parse_bytes, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    command = [arguments.moiety, "bench", arguments.model, "--memory", str(arguments.memory), "--prompt", "7,300,1500",
               "--batch", "1,4,8", "--depth", "0,512", "--new", "16", "--runs", "100"]
    end = time.monotonic() + 60 * arguments.minutes
    samples, most, runs = [], 0, 0
    while time.monotonic() < end:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        runs += 1
        while process.poll() is None and time.monotonic() < end:
            try:
                now, peak = held(process.pid)
            except (FileNotFoundError, KeyError, ProcessLookupError):
                break  # it has just ended
            samples.append((time.monotonic(), now))
            most = max(most, peak)
            time.sleep(0.1)
        if process.poll() is None:
            process.terminate()
        said = process.communicate()[1]
        if process.returncode not in (0, -15):
            sys.exit(f"moiety ended with status {process.returncode}: {said[-500:]}")
    quarter = len(samples) // 4
    second, last = (statistics.median(bytes for _, bytes in part) for part in (samples[quarter:2 * quarter], samples[-quarter:]))
    result = {"minutes": arguments.minutes, "runs": runs, "budget": arguments.memory, "most": most,
              "share": most / arguments.memory, "growth": last / second - 1}
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{arguments.minutes:g} minutes, {runs} run(s): at most {most / 2**20:.0f} MiB of {arguments.memory / 2**20:.0f} "
              f"({100 * result['share']:.1f} %); the last quarter's median is {100 * result['growth']:+.1f} % of the second's")
    sys.exit(0 if result["share"] <= 1.03 else 1)


if __name__ == "__main__":
    main()
