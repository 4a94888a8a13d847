"""Tokens/s over memory as an SVG picture: one panel for each file, disk and kind of work; a line for each program, and a dashed
one for what the disk would have allowed moiety."""
import json
import math
import statistics
import sys
from html import escape
from pathlib import Path
from types import SimpleNamespace

WIDTH, HEIGHT, LEFT, TOP, GAP, BELOW = 260, 180, 52, 70, 30, 56  # of a panel's plot, and around it
# Told apart also by colour-blind eyes (Okabe and Ito 2008).
COLOURS = {"moiety": "#0072b2", "llama.cpp": "#d55e00", "ik_llama.cpp": "#009e73"}


def text(x, y, anchor, size, words):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>\n'


def round_up(value):
    """A round number no smaller, to end an axis with."""
    power = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def lines_of(rows):
    """(program, dashed) -> share of the file -> median tokens/s."""
    values = {}
    for row in rows:
        values.setdefault((row.program, False), {}).setdefault(row.setting.share, []).append(row.tokens_per_second)
        if row.bound is not None:
            values.setdefault((row.program, True), {}).setdefault(row.setting.share, []).append(row.bound)
    return {line: {share: statistics.median(found) for share, found in sorted(points.items())} for line, points in values.items()}


def panel(title, rows, left, top):
    lines = lines_of(rows)
    most = round_up(max(value for points in lines.values() for value in points.values()))
    widest = max(1.0, max(row.setting.share for row in rows))
    svg = text(left, top - 10, "start", 12, title)
    for i in range(5):
        y = top + HEIGHT * (1 - i / 4)
        svg += f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>\n'
        svg += text(left - 6, y + 4, "end", 10, f"{most * i / 4:g}")
    for share in sorted({row.setting.share for row in rows}):
        svg += text(left + WIDTH * share / widest, top + HEIGHT + 16, "middle", 10, f"{100 * share:g}")
    svg += text(left + WIDTH / 2, top + HEIGHT + 32, "middle", 10, "memory, % of the file")
    for (program, dashed), points in lines.items():
        colour = COLOURS.get(program, "#555")
        places = [(left + WIDTH * share / widest, top + HEIGHT * (1 - value / most), value) for share, value in points.items()]
        svg += (f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)}" fill="none" stroke="{colour}" '
                f'stroke-width="{1 if dashed else 2}" stroke-dasharray="{"5 4" if dashed else "none"}"/>\n')
        for x, y, value in places:
            svg += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 if dashed else 3.5}" fill="{colour}">'
                    f'<title>{escape(program)}{", bound" if dashed else ""}: {value:.2f} tokens/s</title></circle>\n')
    return svg


def draw(rows):
    panels = {}
    for row in rows:
        panels.setdefault((row.setting.model, row.setting.rate), {}).setdefault(row.work, []).append(row)
    columns = max((len(works) for works in panels.values()), default=1)
    width, height = GAP + columns * (LEFT + WIDTH + GAP), TOP + len(panels) * (HEIGHT + TOP + BELOW)
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">\n'
           f'<rect width="{width}" height="{height}" fill="white"/>\n')
    svg += text(GAP, 24, "start", 15, "tokens/s in less memory than the file; dashed: the bound of what moiety read")
    at = GAP
    for program in dict.fromkeys(row.program for row in rows):
        svg += f'<rect x="{at}" y="36" width="12" height="4" fill="{COLOURS.get(program, "#555")}"/>\n' + text(at + 16, 42, "start", 11, program)
        at += 120
    for line, ((model, rate), works) in enumerate(panels.items()):
        top = TOP + 40 + line * (HEIGHT + TOP + BELOW)
        disk = f"{rate / 1e9:g} GB/s" if rate else "no throttle"
        svg += text(GAP, top - 30, "start", 12, f"{Path(model).name}, disk: {disk}")
        for column, (work, found) in enumerate(works.items()):
            svg += panel(work, found, GAP + LEFT + column * (LEFT + WIDTH + GAP), top)
    return svg + "</svg>\n"


def main():
    """Draws what streaming.py --json FILE wrote: streaming_plot.py FILE OUT.svg."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} FILE.json OUT.svg")
    rows = [SimpleNamespace(**{**row, "setting": SimpleNamespace(**row["setting"])})
            for row in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))]
    Path(sys.argv[2]).write_text(draw(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
