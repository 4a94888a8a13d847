#!/usr/bin/env python3
"""Models in less memory than they need, from disks of a given speed, beside other engines, as Markdown tables. Needs root.

  benchmarks/streaming.py MOIETY MODEL.gguf... [--llama-cpp DIR] [--ik DIR] [--shares 0.5,0.25] [--rates 400MB,1GB]

Every run is a process in a control group of its own, whose memory, page cache included, is a share of the file's size, and whose
reads of the disk are throttled; the page cache is empty when it starts and the device's read-ahead is what Linux has by default.
All programs are fed the same token ids (moiety bench --tokens topics --save-tokens): a round to warm up, then one that counts,
with other tokens. Programs take turns, round after round; numbers are medians.

DIR is a peer's tree with headers and its libraries in build; llama_tokens.cc is compiled against them. A peer that is not there has
no column. Models of skewed routing: moiety bench --synthetic SHAPE --routing skewed --save FILE.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from control_group import Disk, ReadAhead, cgroup_class, drop_page_cache
from streaming_plot import draw

UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}


@dataclass(frozen=True)
class Setting:
    """What all programs get."""
    model: str
    share: float  # of the file's size that is memory
    rate: int  # bytes a second that the disk gives; 0: what it can

    def budget(self):
        return int(self.share * os.path.getsize(self.model))

    def __str__(self):
        rate = f"{self.rate / 1e6:.0f} MB/s" if self.rate else "no throttle"
        return f"{Path(self.model).name}, {100 * self.share:.0f} % ({self.budget() / 1e9:.2f} GB), {rate}"


@dataclass
class Row:
    """What a program did in one case of one run. What only moiety says of itself is None for others."""
    setting: Setting
    program: str
    round: int
    work: str
    tokens_per_second: float
    bytes_per_token: float
    peak_group: int  # bytes charged to the control group, page cache included
    peak_resident: int  # bytes
    hit_rate: float = None
    bound: float = None  # tokens/s that the bytes it read, or the arithmetic, allow
    share_of_bound: float = None
    disk_rate: float = None  # bytes a second that the bound is of: the throttle's, else as measured


def work_name(phase, batch, tokens):
    return f"prefill {tokens}" if phase == "prefill" else f"decode, batch {batch}"


class Moiety:
    name = "moiety"

    def __init__(self, options):
        self.options = options

    def bench(self, model, budget, *more):
        o = self.options
        # The group also counts page tables, and each page of a file on its way
        return [o.moiety, "bench", model, "--memory", f"{int(0.98 * budget)}B", "--tokens", "topics", "--prompt", o.prompt, "--batch", o.batch,
                "--new", o.new, "--runs", 1, "--threads", o.threads, *more]

    def save_tokens(self, setting, path):
        subprocess.run([str(word) for word in self.bench(setting.model, setting.budget(), "--save-tokens", path)], check=True)

    def command(self, setting, tokens):
        # A throttle lets more through for the first tenth of a second, as long as a measurement takes
        rate = ["--disk-rate", setting.rate] if setting.rate else []
        return self.bench(setting.model, setting.budget(), *rate, "--json")

    def results(self, out):
        measured = json.loads(out)
        for result in measured["results"]:
            experts = result.get("experts", {})
            yield dict(work=work_name(result["phase"], result["batch"], result["tokens"]),
                       tokens_per_second=result["tokens_per_second"], bytes_per_token=experts.get("bytes_per_token", 0),
                       hit_rate=experts.get("hit_rate", 1), bound=result["bound_tokens_per_second"],
                       share_of_bound=result["share_of_bound"], disk_rate=measured["limits"].get("disk_bytes_per_second"))


class Peer:
    """llama_tokens against a peer's libraries."""

    def __init__(self, name, tree, options, folder, *flags):
        self.name, self.options, self.flags = name, options, flags
        self.driver = Path(folder, name)
        libraries = [path for path in sorted(Path(tree, "build").resolve().rglob("lib*.so")) if path.stem in ("libllama", "libggml", "libggml-base")]
        if not libraries:
            sys.exit(f"{tree}: there are no libraries of llama.cpp in its folder build")
        source = Path(__file__).with_name("llama_tokens.cc")
        paths = [f"-Wl,-rpath,{library.parent}" for library in libraries]
        subprocess.run(["g++", "-std=c++20", "-O2", source, "-I", Path(tree, "include"), "-I", Path(tree, "ggml/include"),
                        *libraries, *paths, "-o", self.driver], check=True)

    def command(self, setting, tokens):
        return [self.driver, setting.model, tokens, "--threads", self.options.threads, "--ubatch", self.options.ubatch, *self.flags]

    def results(self, out):
        for result in json.loads(out)["results"]:
            tokens = result["batch"] * result["tokens"]
            yield dict(work=work_name(result["phase"], result["batch"], result["tokens"]),
                       tokens_per_second=result["tokens_per_second"], bytes_per_token=result["bytes_read"] / tokens)


def run(command, group, timeout):
    """Standard output of a program in the control group, its peak resident set, and why it failed or None."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=errors, preexec_fn=group.enter)
        try:
            until, ended, usage = time.monotonic() + timeout, 0, None
            while not ended and time.monotonic() < until:
                time.sleep(0.1)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not ended:
                return None, 0, f"not done after {timeout} s"
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        out.seek(0), errors.seek(0)
        why = None
        if process.returncode != 0:
            lines = errors.read().strip().splitlines()
            why = "it needed more memory than the group has" if group.was_killed() else lines[-1] if lines else f"exit status {process.returncode}"
        return out.read(), usage.ru_maxrss * 1024, why


def measure(options, programs, settings, tokens):
    """Rows of all programs in all settings, round after round."""
    rows, groups = [], cgroup_class()
    for number in range(options.rounds):
        for setting in settings:
            for program in programs:
                began = time.monotonic()
                drop_page_cache()
                with groups(setting.budget(), Disk(setting.model), setting.rate) as group:
                    out, resident, why = run(program.command(setting, tokens[setting]), group, options.timeout)
                    peak = group.peak()
                note = why
                if why is None:
                    found = [Row(setting, program.name, number, peak_group=peak, peak_resident=resident, **result)
                             for result in program.results(out)]
                    rows += found
                    note = ", ".join(f"{row.tokens_per_second:.2f}" for row in found) + " tokens/s"
                print(f"round {number + 1}, {setting}, {program.name}: {note} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return rows


def middle(rows, name):
    values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
    return statistics.median(values) if values else None


def gigabytes(value):
    return "-" if value is None else f"{value / 1e9:.3g}"


def print_tables(options, programs, rows):
    names = [program.name for program in programs]
    ours = Moiety.name in names
    for model in dict.fromkeys(row.setting.model for row in rows):
        print(f"\n{Path(model).name}, {os.path.getsize(model) / 1e9:.2f} GB, {options.threads} threads, read-ahead "
              f"{options.read_ahead} KiB, medians of {options.rounds}; tokens/s (GB read a token)\n")
        head = ["memory", "disk", "work", *names] + ["over the best peer", "of the bound", "found in memory"] * ours
        head += [f"peak of {name}, GB: resident, group" for name in names]
        print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
        of_model = [row for row in rows if row.setting.model == model]
        for setting, work in dict.fromkeys((row.setting, row.work) for row in of_model):
            by_name = {name: [row for row in of_model if (row.setting, row.work, row.program) == (setting, work, name)] for name in names}
            print("| " + " | ".join(cells(setting, work, by_name, ours)) + " |")


def cells(setting, work, by_name, ours):
    """A line of the table."""
    speed = {name: middle(rows, "tokens_per_second") for name, rows in by_name.items()}
    yield f"{100 * setting.share:.0f} %, {setting.budget() / 1e9:.2f} GB"
    yield f"{setting.rate / 1e9:.3g} GB/s" if setting.rate else "all"
    yield work
    for name, rows in by_name.items():
        yield f"{speed[name]:.2f} ({gigabytes(middle(rows, 'bytes_per_token'))})" if rows else "-"
    if ours:
        mine, peers = by_name[Moiety.name], [value for name, value in speed.items() if name != Moiety.name and value]
        yield f"{speed[Moiety.name] / max(peers):.2f}" if mine and peers else "-"
        yield f"{100 * middle(mine, 'share_of_bound'):.0f} % of {middle(mine, 'bound'):.1f}" if mine else "-"
        yield f"{100 * middle(mine, 'hit_rate'):.0f} %" if mine else "-"
    for rows in by_name.values():
        yield f"{gigabytes(middle(rows, 'peak_resident'))}, {gigabytes(middle(rows, 'peak_group'))}" if rows else "-"


def parse_rate(text):
    digits = text.rstrip("bBkKmMgG")
    return int(float(digits) * UNITS[text[len(digits):].lower()])


def listed(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moiety", help="the program")
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--llama-cpp", metavar="DIR")
    parser.add_argument("--ik", metavar="DIR", help="run with --prefetch-experts --defer-experts")
    parser.add_argument("--programs", type=listed(str), help="only these of moiety,llama.cpp,ik_llama.cpp")
    parser.add_argument("--shares", type=listed(float), default=[0.5, 0.25], help="memory, of the file's size (default 0.5,0.25)")
    parser.add_argument("--rates", type=listed(parse_rate), default=[400_000_000, 1_000_000_000],
                        help="bytes a second from the disk, 0: no throttle (default 400MB,1GB)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of the prompt (default 1024)")
    parser.add_argument("--batch", default="1,4", help="sequences that decode side by side, one number a case (default 1,4)")
    parser.add_argument("--new", type=int, default=32, help="tokens to decode in each sequence (default 32)")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--ubatch", type=int, default=512, help="tokens that peers compute at once (default 512, as theirs)")
    parser.add_argument("--read-ahead", type=int, default=128, metavar="KIB", help="of the block device (default 128, as Linux's)")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that a run may take (default 3600)")
    parser.add_argument("--json", metavar="FILE", help="write every single measurement")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw tokens/s over memory")
    return parser.parse_args()


def chosen_programs(options, folder):
    found = [("moiety", lambda: Moiety(options))]
    if options.llama_cpp:
        found.append(("llama.cpp", lambda: Peer("llama.cpp", options.llama_cpp, options, folder)))
    if options.ik:
        found.append(("ik_llama.cpp", lambda: Peer("ik_llama.cpp", options.ik, options, folder, "--prefetch-experts", "--defer-experts")))
    wanted = options.programs or [name for name, _ in found]
    for name in wanted:
        if name not in dict(found):
            sys.exit(f"--programs {name}: there is no such program here; these are: {', '.join(name for name, _ in found)}")
    return [make() for name, make in found if name in wanted]


def main():
    options = parse_arguments()
    if os.geteuid() != 0:
        sys.exit("control groups, the page cache and read-ahead are root's: run this as root")
    # So that all that is set back at the end is
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = [Setting(model, share, rate) for model in options.models for share in options.shares for rate in options.rates]
    with tempfile.TemporaryDirectory() as folder:
        programs, tokens = chosen_programs(options, folder), {}
        for number, setting in enumerate(settings):
            tokens[setting] = Path(folder, f"tokens-{number}")
            Moiety(options).save_tokens(setting, tokens[setting])
        disks = {disk.number: disk for disk in map(Disk, options.models)}
        rows = with_read_ahead(list(disks.values()), options.read_ahead, lambda: measure(options, programs, settings, tokens))
    print_tables(options, programs, rows)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if options.plot:
        Path(options.plot).write_text(draw(rows))


def with_read_ahead(disks, kib, body):
    if not disks:
        return body()
    with ReadAhead(disks[0], kib):
        return with_read_ahead(disks[1:], kib, body)


if __name__ == "__main__":
    main()
