#!/usr/bin/env python3
"""Gives a GGUF file that has no vocabulary one, so that servers can be asked in words.

  benchmarks/add_words.py IN.gguf OUT.gguf

The words of serving.py are a token each, all other text a token a byte, and what is left of the vocabulary is written x and a number. The tokenizer is byte-level BPE (GGUF's "gpt2"), which moiety and llama.cpp read alike. Weights are copied as they are.
"""
import struct
import sys

from serving import WORDS

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read(file, form):
    return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]


def skip_value(file, kind):
    if kind == 8:
        file.seek(read(file, "Q"), 1)
    elif kind == 9:
        inner, count = read(file, "I"), read(file, "Q")
        for _ in range(count):
            skip_value(file, inner)
    else:
        read(file, SCALARS[kind])


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def array(kind, parts):
    return struct.pack("<IQ", kind, len(parts)) + b"".join(parts)


def byte_alphabet():
    """Each byte as a visible character (Radford et al. 2019, GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {}, 256
    for byte in range(256):
        if byte in plain:
            names[byte] = chr(byte)
        else:
            names[byte], extra = chr(extra), extra + 1
    return names


def vocabulary(size):
    names = byte_alphabet()
    tokens, merges = [names[byte] for byte in range(256)], []
    known = set(tokens)
    for word in WORDS:
        for start in (names[32], ""):
            letters = [names[byte] for byte in word.encode()]
            pieces = ([start] if start else []) + letters
            so_far = pieces[0]
            for letter in pieces[1:]:
                if so_far + letter not in known:
                    known.add(so_far + letter)
                    tokens.append(so_far + letter)
                    merges.append(f"{so_far} {letter}")
                so_far += letter
    ends = len(tokens)
    tokens.append("<|endoftext|>")
    kinds = [1] * ends + [3]
    while len(tokens) < size:
        kinds.append(1)
        tokens.append(f"x{len(tokens)}")
    return tokens, kinds, merges, ends


def main():
    source, target = sys.argv[1:3]
    with open(source, "rb") as file:
        if file.read(4) != b"GGUF":
            raise SystemExit(f"{source}: no GGUF file")
        version, tensors, pairs = read(file, "I"), read(file, "Q"), read(file, "Q")
        begin, alignment, kept = file.tell(), 32, []
        for _ in range(pairs):
            at = file.tell()
            key = file.read(read(file, "Q")).decode()
            kind = read(file, "I")
            if key == "general.alignment":
                alignment = read(file, "I")
            else:
                skip_value(file, kind)
            end = file.tell()
            if not key.startswith("tokenizer."):
                file.seek(at)
                kept.append(file.read(end - at))
            file.seek(end)
        infos_at, vocabulary_size = file.tell(), 0
        for _ in range(tensors):
            name = file.read(read(file, "Q")).decode()
            sizes = [read(file, "Q") for _ in range(read(file, "I"))]
            file.seek(12, 1)
            if name == "token_embd.weight":
                vocabulary_size = sizes[1]
        end = file.tell()
        file.seek(infos_at)
        infos = file.read(end - infos_at)
        tokens, kinds, merges, ends = vocabulary(vocabulary_size)
        kept.append(pair("general.alignment", 4, struct.pack("<I", alignment)))
        kept += [pair("tokenizer.ggml.model", 8, text("gpt2")), pair("tokenizer.ggml.pre", 8, text("gpt-2")),
                 pair("tokenizer.ggml.tokens", 9, array(8, [text(token) for token in tokens])),
                 pair("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", kind) for kind in kinds])),
                 pair("tokenizer.ggml.merges", 9, array(8, [text(merge) for merge in merges])),
                 pair("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", ends)),
                 pair("tokenizer.ggml.add_bos_token", 7, struct.pack("<?", False)),
                 pair("tokenizer.chat_template", 8, text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"))]
        with open(target, "wb") as out:
            out.write(b"GGUF" + struct.pack("<IQQ", version, tensors, len(kept)) + b"".join(kept) + infos)
            out.write(b"\0" * (-out.tell() % alignment))
            file.seek((end + alignment - 1) // alignment * alignment)
            while block := file.read(1 << 24):
                out.write(block)


if __name__ == "__main__":
    main()
