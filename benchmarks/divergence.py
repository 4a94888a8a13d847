#!/usr/bin/env python3
"""How far a model's predictions move when its weights are quantised, and llama.cpp's with the very same file.

  benchmarks/divergence.py MOIETY MODEL TEXT... [--llama-cpp DIR] [--types q8_0,q4_k_m,...] [--windows 24]

MODEL, of f32 or bf16 weights, computed with --exact is the reference; each type is one file that `moiety quantize` makes of
it. DIR is a llama.cpp tree with its libraries in build/bin, against which llama_kl.cc is compiled; without it its columns are
missing. Both are given the same texts, `--windows` pieces of them, and keep keys and values in f16.
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

PIECE = 240  # bytes: fits a window of 256 tokens whatever the tokenizer
TYPES = "f16,bf16,q8_0,q6_k,q5_k_m,q5_1,q5_0,q4_k_m,q4_1,q4_0,iq4_nl,iq4_xs,mxfp4,q3_k_m,q2_k"


def run(*command):
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}: {result.stderr.strip()[-400:]}")
    return result.stdout


def pieces(texts, count):
    """`count` pieces from all over the texts."""
    share = math.ceil(count / len(texts))
    found = []
    for text in texts:
        data = Path(text).read_text(errors="replace").replace("\x1e", "")
        for i in range(share):
            begin = len(data) * i // share
            found.append(data[begin:begin + PIECE].encode()[:PIECE].decode(errors="ignore"))
    return found[:count]


def build_llama_kl(llama, folder):
    libraries = Path(llama, "build/bin")
    program = Path(folder, "llama_kl")
    run("g++", "-std=c++20", "-O2", Path(__file__).with_name("llama_kl.cc"), "-I", Path(llama, "include"), "-I",
        Path(llama, "ggml/include"), "-L", libraries, "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries.resolve()}",
        "-o", program)
    return program


def moiety_divergence(options, model, texts, references):
    kl = same = count = 0
    for text, reference in zip(texts, references):
        out = json.loads(run(options.moiety, "eval", model, "--text", text, "--kl", reference, "--kv", "f16", "--json"))
        found = out["texts"][0]["kl"]
        tokens = found["tokens"]
        kl += found["mean"] * tokens
        same += found["same_top"] * tokens
        count += tokens
    return kl / count, same / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety")
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--llama-cpp")
    parser.add_argument("--first-token", type=int, default=0, help="the token that starts texts, for llama.cpp")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--windows", type=int, default=60)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        texts, references = [], []
        for i, piece in enumerate(pieces(options.texts, options.windows)):
            texts.append(Path(folder, f"{i}.txt"))
            references.append(Path(folder, f"{i}.logits"))
            texts[-1].write_text(piece)
            run(options.moiety, "eval", options.model, "--text", texts[-1], "--exact", "--save-logits", references[-1])
        llama_kl = build_llama_kl(options.llama_cpp, folder) if options.llama_cpp else None

        print("| type | KL, moiety | llama.cpp | same top token, moiety | llama.cpp |")
        print("| --- | --- | --- | --- | --- |")
        for kind in options.types.split(","):
            model = Path(folder, f"{kind}.gguf")
            run(options.moiety, "quantize", options.model, model, "--type", kind)
            kl, same = moiety_divergence(options, model, texts, references)
            other = ["", ""]
            if llama_kl:
                found = json.loads(run(llama_kl, model, options.first_token, *references))
                other = [f"{found['kl']:.6f}", f"{100 * found['same_top']:.2f} %"]
            print(f"| {kind} | {kl:.6f} | {other[0]} | {100 * same:.2f} % | {other[1]} |", flush=True)
            model.unlink()


if __name__ == "__main__":
    main()
