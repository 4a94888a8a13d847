#!/usr/bin/env python3
"""Inference beside other engines on the same file, as a Markdown table.

  benchmarks/peers.py MOIETY MODEL.gguf|SHAPE[:TYPE] [--llama-cpp DIR] [--ik DIR] [--rounds 3] [--threads 2]

DIR holds a peer's llama-bench and llama-batched-bench (of ik_llama.cpp also llama-sweep-bench, for prompts at depth). A peer
that is not there has no column. Programs take turns round after round, one at a time; numbers are medians over rounds. A SHAPE
is one that `moiety bench --synthetic` knows; its file is written beside the system's temporary files and removed.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile


def run(*command, errors=subprocess.PIPE):
    """Standard output of a program, or None and a line on stderr if it failed."""
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, text=True)
    if result.returncode == 0:
        return result.stdout
    print(f"failed: {' '.join(map(str, command))}: {(result.stderr or result.stdout).strip()[-300:]}", file=sys.stderr)
    return None


def moiety(options, speeds, shares, limits):
    """Speeds by kind of work; how much of what binds it each is; the limits of the machine that round."""
    common = ["--prompt", options.prompt, "--new", options.new, "--runs", 1, "--threads", options.threads, "--json"]
    cases = [["--batch", ",".join(map(str, [1, *options.batch]))]]
    if options.depth:
        cases.append(["--batch", 1, "--depth", options.depth])
    for case in cases:
        out = run(options.moiety, "bench", options.model, *case, *common)
        if out is None:
            continue
        measured = json.loads(out)
        limits.append(measured["limits"])
        for result in measured["results"]:
            work = work_name(result["phase"], result["batch"], result["depth"])
            speeds.setdefault(work, []).append(result["tokens_per_second"])
            shares.setdefault(work, []).append((result["share_of_bound"], result["bound"]))


def work_name(phase, batch, depth):
    name = "prefill" if phase == "prefill" else f"decode, batch {batch}"
    return f"{name}, depth {depth}" if depth else name


def bench(folder, options, speeds, *flags):
    """llama-bench: one sequence."""
    out = run(f"{folder}/llama-bench", "-m", options.model, "-t", options.threads, "-p", options.prompt, "-n", options.new,
              "-r", 1, "-o", "json", *flags)
    for result in json.loads(out) if out else []:
        phase, depth = ("prefill" if result["n_prompt"] else "decode"), result.get("n_depth", 0)
        speeds.setdefault(work_name(phase, 1, depth), []).append(result["avg_ts"])


def batched_bench(folder, options, speeds, *flags):
    """llama-batched-bench: sequences side by side, after one token each."""
    context = max(options.batch) * (options.new + 8) + 256
    out = run(f"{folder}/llama-batched-bench", "-m", options.model, "-t", options.threads, "-c", context, "-b", 2048, "-ub", 512,
              "-npp", 1, "-ntg", options.new, "-npl", ",".join(map(str, options.batch)), *flags, errors=subprocess.STDOUT)
    for row in table_rows(out):  # PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG, T, S
        speeds.setdefault(work_name("decode", int(row[2]), 0), []).append(row[7])


def sweep_bench(folder, options, speeds, *flags):
    """llama-sweep-bench: prompts and answers at every depth up to the one that counts."""
    out = run(f"{folder}/llama-sweep-bench", "-m", options.model, "-t", options.threads, "-c", options.depth + options.prompt,
              "-b", options.prompt, "-ub", options.prompt, "-n", options.new, *flags, errors=subprocess.STDOUT)
    for row in table_rows(out):  # PP, TG, N_KV, T_PP, S_PP, T_TG, S_TG
        if row[2] == options.depth:
            speeds.setdefault(work_name("prefill", 1, options.depth), []).append(row[4])
            speeds.setdefault(work_name("decode", 1, options.depth), []).append(row[6])


def table_rows(out):
    for line in (out or "").splitlines():
        if re.match(r"\|\s*\d", line):
            yield [float(cell) for cell in line.strip().strip("|").split("|") if cell.strip()[:1].isdigit()]


def llama_cpp(options, speeds):
    bench(options.llama_cpp, options, speeds)
    batched_bench(options.llama_cpp, options, speeds)
    if options.depth:
        bench(options.llama_cpp, options, speeds, "-d", options.depth)


def ik(options, speeds):
    # Repacked when loaded; flash attention and fused experts are on by default where there is no flag for them.
    bench(options.ik, options, speeds, "-rtr", 1, "-fa", 1, "-fmoe", 1)
    batched_bench(options.ik, options, speeds, "-rtr")
    if options.depth and os.path.exists(f"{options.ik}/llama-sweep-bench"):
        sweep_bench(options.ik, options, speeds, "-rtr")


def print_table(options, columns, shares, limits):
    middle = statistics.median
    peers = [name for name in columns if name != "moiety"]
    print(f"\n{os.path.basename(options.model)}, {options.threads} threads, medians of {options.rounds} rounds; "
          f"memory reads {middle([l['read_bytes_per_second'] for l in limits]) / 1e9:.1f} GB/s, arithmetic "
          f"{middle([l['int8_operations_per_second'] for l in limits]) / 1e9:.0f} Gop/s in int8\n")
    print("| tokens/s | " + " | ".join(columns) + " | over the best peer | of what binds |")
    print("|---" * (len(columns) + 3) + "|")
    for work, ours in columns["moiety"].items():
        theirs = [middle(columns[peer][work]) for peer in peers if work in columns[peer]]
        cells = [f"{middle(columns[name][work]):.1f}" if work in columns[name] else "-" for name in columns]
        ratio = f"{middle(ours) / max(theirs):.2f}" if theirs else "-"
        share = middle([share for share, _ in shares[work]])
        print(f"| {work} | " + " | ".join(cells) + f" | {ratio} | {100 * share:.0f} % of {shares[work][0][1]} |")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("model")
    parser.add_argument("--llama-cpp", metavar="DIR")
    parser.add_argument("--ik", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--batch", type=lambda text: [int(n) for n in text.split(",")], default=[8, 16])
    parser.add_argument("--depth", type=int, default=8192, help="0: none")
    return parser.parse_args()


def main():
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        if not os.path.exists(options.model):
            shape, _, mix = options.model.partition(":")
            options.model = os.path.join(folder, options.model.replace(":", "-") + ".gguf")
            subprocess.run([options.moiety, "bench", "--synthetic", shape, *(["--type", mix] if mix else []), "--save",
                            options.model], check=True)
        columns, shares, limits = {}, {}, []
        for _ in range(options.rounds):
            if options.llama_cpp:
                llama_cpp(options, columns.setdefault("llama.cpp", {}))
            if options.ik:
                ik(options, columns.setdefault("ik_llama.cpp", {}))
            moiety(options, columns.setdefault("moiety", {}), shares, limits)
        print_table(options, columns, shares, limits)


if __name__ == "__main__":
    main()
