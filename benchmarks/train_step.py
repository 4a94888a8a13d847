#!/usr/bin/env python3
"""Whole training steps of a small mixture of experts, forward, backward and AdamW: moiety beside eager PyTorch, in turn.

  benchmarks/train_step.py build/release/bin/train_step_benchmark [--types f32,bf16] [--rounds 3] [--steps 12] [--blas FOLDER]

Six layers of width 384, 6 heads, 16 experts of 768 hidden units, 2 a token, 8192 tokens; 8 sequences of 256. Both sides see the same
text, begin with weights of the same distribution, and take the same steps: the losses at the end are printed. PyTorch's experts are a
loop over them, or rows sorted by expert; bf16 is autocast, as ours with weights in f32. Each runs in a process of its own, with
--threads threads (one is measured in processor time, which a busy machine disturbs less); medians of each process, then of the rounds. PyTorch keeps its memory, as we do, and uses AVX-512; for --blas see moe_layer.py.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LAYERS, WIDTH, HEADS, EXPERTS, CHOSEN, HIDDEN, VOCAB, SEQUENCE, SEQUENCES = 6, 384, 6, 16, 2, 768, 8192, 256, 8
WAYS = ["loop", "sort"]


def chain():
    state = 1

    def draw():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state >> 33

    while True:
        rows = []
        for _ in range(SEQUENCES):
            row = [draw() % VOCAB]
            for _ in range(SEQUENCE):
                follows, any_token = draw() % 10 < 7, draw() % VOCAB
                row.append((row[-1] * 7 + 13) % VOCAB if follows else any_token)
            rows.append(row)
        yield rows


def run_torch(way, type_name, steps):
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    torch.manual_seed(1)
    weights = []

    def weight(*shape, size=None, adds=False):
        size = size or shape[-1] ** -0.5 / ((2 * LAYERS) ** 0.5 if adds else 1)
        weights.append((torch.randn(*shape) * size).requires_grad_())
        return weights[-1]

    def norm():
        weights.append(torch.ones(WIDTH, requires_grad=True))
        return weights[-1]

    stack = (lambda *shape, **how: [weight(*shape, **how) for _ in range(EXPERTS)]) if way == "loop" else \
            (lambda *shape, **how: weight(EXPERTS, *shape, **how))
    table, head, last_norm = weight(VOCAB, WIDTH, size=0.5), weight(VOCAB, WIDTH, size=0.5 * WIDTH ** -0.5), norm()
    layers = [dict(norms=(norm(), norm()), qkv=weight(3 * WIDTH, WIDTH), out=weight(WIDTH, WIDTH, adds=True), router=weight(EXPERTS, WIDTH),
                   gate=stack(HIDDEN, WIDTH), up=stack(HIDDEN, WIDTH), down=stack(WIDTH, HIDDEN, adds=True)) for _ in range(LAYERS)]
    half = WIDTH // HEADS // 2
    angles = torch.outer(torch.arange(SEQUENCE), 1e4 ** (-torch.arange(half) / half))
    cosine, sine, mask = angles.cos(), angles.sin(), torch.full((SEQUENCE, SEQUENCE), -1e9).triu(1)

    def rms_norm(x, w):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w

    def rotated(x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).to(x.dtype)

    def attention(layer, x):
        q, k, v = F.linear(x, layer["qkv"]).view(SEQUENCES, SEQUENCE, 3, HEADS, 2 * half).permute(2, 0, 3, 1, 4)
        scores = rotated(q) @ rotated(k).transpose(-1, -2) * (2 * half) ** -0.5
        return F.linear((F.softmax(scores + mask, -1).to(v.dtype) @ v).transpose(1, 2).reshape(x.shape), layer["out"])

    def expert(rows, gate, up, down):
        return F.linear(F.silu(F.linear(rows, gate)) * F.linear(rows, up), down)

    def experts(layer, x):
        p = F.softmax(F.linear(x, layer["router"]).float(), -1)
        mix, chosen = p.topk(CHOSEN, -1)
        mix = (mix / mix.sum(-1, keepdim=True)).to(x.dtype)
        counts = torch.bincount(chosen.reshape(-1), minlength=EXPERTS)
        balance = EXPERTS * (counts / chosen.numel() * p.mean(0)).sum()
        if way == "loop":
            out = torch.zeros_like(x)
            mask_of = F.one_hot(chosen, EXPERTS).permute(2, 0, 1)
            for e, parts in enumerate(zip(layer["gate"], layer["up"], layer["down"])):
                token, place = torch.where(mask_of[e])
                if len(token):
                    out.index_add_(0, token, (expert(x[token], *parts) * mix[token, place, None]).to(out.dtype))
            return out, balance
        order = chosen.reshape(-1).argsort(stable=True)
        token = order // CHOSEN
        parts = zip(x.index_select(0, token).split(counts.tolist()), *(layer[name].unbind(0) for name in ("gate", "up", "down")))
        rows = torch.cat([expert(*part) for part in parts]) * mix.reshape(-1)[order][:, None]
        return torch.zeros(x.shape, dtype=rows.dtype).index_add(0, token, rows), balance

    def loss_of(tokens, targets):
        x, balances = F.embedding(tokens, table), []
        for layer in layers:
            x = x + attention(layer, rms_norm(x, layer["norms"][0]))
            mixed, balance = experts(layer, rms_norm(x, layer["norms"][1]).view(-1, WIDTH))
            x = x + mixed.view_as(x)
            balances.append(balance)
        nats = F.cross_entropy(F.linear(rms_norm(x, last_norm), head).float().view(-1, VOCAB), targets.reshape(-1))
        return nats, nats + 0.01 * sum(balances) / LAYERS

    optimizer = torch.optim.AdamW(weights, lr=3e-4, weight_decay=0.01)
    parts, losses, text = [], [], chain()
    for _ in range(steps):
        rows = torch.tensor(next(text))
        start = clock()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=type_name == "bf16"):
            nats, total = loss_of(rows[:, :-1], rows[:, 1:])
        forward = clock()
        total.backward()
        backward = clock()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        parts.append((clock() - start, forward - start, backward - forward, clock() - backward))
        losses.append(round(nats.item(), 4))
    names = ("seconds", "forward", "backward", "optimizer")
    print(json.dumps(dict(zip(names, (statistics.median(part) for part in zip(*parts[2:]))), losses=losses)))


def torch_python():
    for python in ("/usr/bin/python3", sys.executable):
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    return None


def main():
    if sys.argv[1:2] == ["--run"]:
        return run_torch(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark")
    parser.add_argument("--types", default="f32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", default="12")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--blas")
    options = parser.parse_args()
    python = torch_python()
    own = dict(os.environ, OMP_NUM_THREADS=options.threads)
    theirs = dict(own, OPENBLAS_NUM_THREADS=options.threads, ATEN_CPU_CAPABILITY="avx512", MALLOC_MMAP_MAX_="0",
                  MALLOC_TRIM_THRESHOLD_="2147483647", MALLOC_TOP_PAD_="67108864")
    if options.blas:
        theirs["LD_LIBRARY_PATH"] = options.blas

    print("| type | who | ms a step | forward, backward, optimizer | tokens/s | moiety over it | loss after the steps |\n|" + " --- |" * 7)
    for type_name in options.types.split(","):
        commands = {"moiety": ([options.benchmark, type_name, options.steps], own)}
        for way in WAYS if python else []:
            commands[f"PyTorch, {way}"] = ([python, __file__, "--run", way, type_name, options.steps], theirs)
        runs = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, (command, environment) in commands.items():
                runs[name].append(json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
        middle = lambda name, part: statistics.median(run[part] for run in runs[name])
        for name in runs:
            seconds = middle(name, "seconds")
            parts = ", ".join(f"{1e3 * middle(name, part):.0f}" for part in ("forward", "backward", "optimizer"))
            print(f"| {type_name} | {name} | {1e3 * seconds:.0f} | {parts} | {SEQUENCES * SEQUENCE / seconds:.0f} | "
                  f"{seconds / middle('moiety', 'seconds'):.2f} | {runs[name][0]['losses'][-1]:.3f} |", flush=True)


main()
