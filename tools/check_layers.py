#!/usr/bin/env python3
"""Holds every #include under src/ to the layer table of src/CMakeLists.txt."""
import pathlib
import re
import sys

src = pathlib.Path(__file__).resolve().parent.parent / "src"
table = {}
for line in (src / "CMakeLists.txt").read_text().splitlines():
    row = re.match(r"\s*layer\((\w+)([^)]*)\)", line)
    if row:
        table[row[1]] = {row[1], *row[2].split()}

wrong = []
for path in sorted(src.rglob("*.cc")) + sorted(src.rglob("*.h")):
    folder = path.relative_to(src).parts[0]
    for number, line in enumerate(path.read_text().splitlines(), 1):
        include = re.match(r'#include "(\w+)/', line)
        where = f"{path.relative_to(src.parent)}:{number}"
        allowed = table.get(folder, set()) | ({"support"} if path.stem.endswith("_test") else set())
        if include and include[1] not in allowed:
            wrong.append(f"{where}: {folder} may not include {include[1]}")
        if folder not in ("comm", "train", "cli") and re.match(r"#include <(torch|ATen|c10)/", line):
            wrong.append(f"{where}: only comm and train may include libtorch")
print("\n".join(wrong) if wrong else f"{len(table)} layers, every include allowed")
sys.exit(bool(wrong))
