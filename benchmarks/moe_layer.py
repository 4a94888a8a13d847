#!/usr/bin/env python3
"""One MoE layer's experts in training, forward and backward: moiety beside the usual ways to write it in PyTorch, in turn.

  benchmarks/moe_layer.py build/release/bin/moe_layer_benchmark [--shapes 2048,32,4,512,1024 …] [--types f32,bf16] [--rounds 3]
      [--ways loop,sort,pad]

Ways: a loop over experts (as Mixtral's in transformers), rows sorted by expert and a product an expert, rows padded to the busiest
expert's and batched products. Each runs in a process of its own, with --threads threads (one is measured in
processor time, which a busy machine disturbs less) and its best settings; medians of each process,
then of the rounds. In bf16 all of PyTorch is bf16, weights and gradients too; ours reads weights that the optimizer has packed in bf16
(what packing takes by itself stands beside) and adds to gradients in f32. Without python3-torch only moiety's numbers are printed. Debian's default OpenBLAS and libgomp's threads spin
against each other: with --blas FOLDER, the folder of libopenblas0-openmp's libraries, PyTorch uses these.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = ["2048,8,2,512,1024", "2048,32,4,512,1024", "2048,64,8,512,256", "8192,32,4,512,1024"]
ALL_WAYS = ["loop", "sort", "pad"]


def run_torch(way, type_name, tokens, num_experts, chosen, width, hidden):
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    torch.manual_seed(1)
    dtype = torch.float32 if type_name == "f32" else torch.bfloat16
    leaf = lambda *shape: torch.randn(*shape).mul(shape[-1] ** -0.5).to(dtype).requires_grad_(True)
    gate, up, down = leaf(num_experts, hidden, width), leaf(num_experts, hidden, width), leaf(num_experts, width, hidden)
    x = torch.randn(tokens, width).to(dtype).requires_grad_(True)
    dout = torch.randn(tokens, width).to(dtype)
    scores = torch.randn(tokens, num_experts) + 0.3 * torch.randn(num_experts)
    mix, experts = torch.softmax(scores, -1).topk(chosen, -1)
    mix = (mix / mix.sum(-1, keepdim=True)).to(dtype).requires_grad_(True)

    def expert(rows, g, u, d):
        return F.linear(F.silu(F.linear(rows, g)) * F.linear(rows, u), d)

    def loop():
        out = torch.zeros_like(x)
        for e, (g, u, d) in enumerate(zip(gate.unbind(0), up.unbind(0), down.unbind(0))):
            token, place = torch.where(experts == e)
            if len(token):
                out = out.index_add(0, token, expert(x[token], g, u, d) * mix[token, place, None])
        return out

    def by_expert():
        visits = experts.reshape(-1)
        order = visits.argsort(stable=True)
        return order, torch.bincount(visits, minlength=num_experts)

    def sort():
        order, counts = by_expert()
        token = order // chosen
        parts = x.index_select(0, token).split(counts.tolist())
        rows = torch.cat([expert(*part) for part in zip(parts, gate.unbind(0), up.unbind(0), down.unbind(0))])
        return torch.zeros_like(x).index_add(0, token, rows * mix.reshape(-1)[order][:, None])

    def pad():
        order, counts = by_expert()
        token, most = order // chosen, int(counts.max())
        first = counts.cumsum(0) - counts
        of = experts.reshape(-1)[order]
        slot = of * most + torch.arange(len(order)) - first[of]
        rows = torch.zeros(num_experts * most, width, dtype=dtype).index_copy(0, slot, x.index_select(0, token)).view(num_experts, most, width)
        turned = lambda w: w.transpose(1, 2)
        rows = torch.bmm(F.silu(torch.bmm(rows, turned(gate))) * torch.bmm(rows, turned(up)), turned(down)).view(-1, width)
        return torch.zeros_like(x).index_add(0, token, rows.index_select(0, slot) * mix.reshape(-1)[order][:, None])

    way = {"loop": loop, "sort": sort, "pad": pad}[way]
    seconds = []
    for _ in range(6):
        for leaf_tensor in (gate, up, down, x, mix):
            leaf_tensor.grad = None
        start = clock()
        way().backward(dout)
        seconds.append(clock() - start)
    kept = {}
    inputs = {t.storage().data_ptr() for t in (gate, up, down, dout)}
    hold = lambda t: (kept.__setitem__(t.storage().data_ptr(), t.storage().nbytes()), t)[1]
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda t: t):
        out = way()
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "kept_bytes": sum(n for p, n in kept.items() if p not in inputs)}))
    del out


def torch_python():
    for python in ("/usr/bin/python3", sys.executable):
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    return None


def main():
    if sys.argv[1:2] == ["--run"]:
        return run_torch(sys.argv[2], sys.argv[3], *map(int, sys.argv[4].split(",")))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark")
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--types", default="f32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(ALL_WAYS))
    parser.add_argument("--threads", default="2")
    parser.add_argument("--blas")
    options = parser.parse_args()
    ways = options.ways.split(",")
    python = torch_python()
    own = dict(os.environ, OMP_NUM_THREADS=options.threads)
    theirs = dict(own, OPENBLAS_NUM_THREADS=options.threads, ATEN_CPU_CAPABILITY="avx512", MALLOC_MMAP_MAX_="0",
                  MALLOC_TRIM_THRESHOLD_="2147483647", MALLOC_TOP_PAD_="67108864")  # both sides keep their memory
    if options.blas:
        theirs["LD_LIBRARY_PATH"] = options.blas

    print("| T, E, k, D, F | type | " + " | ".join(f"PyTorch, {way}: ms" for way in ways) + " | moiety: ms | over the best | of the peak | keeping inputs: ms |"
          " packing: ms | kept: MiB, of the least of PyTorch's |\n|" + " --- |" * (len(ways) + 8))
    for shape in options.shapes:
        for type_name in options.types.split(","):
            seconds = {way: [] for way in ways}
            kept = {way: 0 for way in ways}
            ours, lean = [], []
            for _ in range(options.rounds):
                command = [options.benchmark, "--json", *shape.split(","), type_name]
                ours.append(json.loads(subprocess.run(command, env=own, capture_output=True, check=True).stdout))
                lean.append(json.loads(subprocess.run([command[0], "--keep-inputs", *command[1:]], env=own, capture_output=True, check=True).stdout))
                for way in ways if python else []:
                    answer = subprocess.run([python, __file__, "--run", way, type_name, shape], env=theirs, capture_output=True, text=True)
                    if answer.returncode == 0:
                        figures = json.loads(answer.stdout)
                        seconds[way].append(figures["seconds"])
                        kept[way] = figures["kept_bytes"]
            middle = lambda values: statistics.median(values) if values else float("nan")
            mine = middle([o["seconds"] for o in ours])
            best = min((middle(s) for s in seconds.values() if s), default=float("nan"))
            least = min((k for k in kept.values() if k), default=float("nan"))
            share = middle([o["flops"] / o["peak"] for o in ours])
            memory = [f"{o[0]['kept_bytes'] / 2**20:.0f}, {100 * o[0]['kept_bytes'] / least:.0f} %" for o in (ours, lean)]
            print(f"| {shape} | {type_name} | " + " | ".join(f"{1e3 * middle(seconds[way]):.0f}" for way in ways) +
                  f" | **{1e3 * mine:.0f}** | {best / mine:.2f} | {100 * share:.0f} % | {1e3 * middle([o['seconds'] for o in lean]):.0f} | {1e3 * middle([o['packing'] for o in ours]):.0f} | "
                  f"{memory[0]}; inputs {memory[1]} |", flush=True)


main()
