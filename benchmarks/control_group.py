"""Less memory and a slower disk for a program than the machine has: Linux's control groups, version 1 or 2, and the block
device that a file is on. All of it needs root."""
import os
from pathlib import Path


class Disk:
    """The block device that a file is on: the whole of it, as throttles and read-ahead are the device's."""

    def __init__(self, file):
        device = os.stat(file).st_dev
        self.path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        if not self.path.exists():
            raise SystemExit(f"{file}: it is on no block device whose reads could be throttled")
        self.path = self.path.resolve()
        if (self.path / "partition").exists():
            self.path = self.path.parent
        self.number = (self.path / "dev").read_text().strip()


class ReadAhead:
    """How much more than a page the kernel reads when a mapped page is missing, until the end of a `with` block."""

    def __init__(self, disk, kib):
        self.file, self.kib = disk.path / "queue/read_ahead_kb", kib

    def __enter__(self):
        self.before = self.file.read_text()
        self.file.write_text(str(self.kib))

    def __exit__(self, *_):
        self.file.write_text(self.before)


class Cgroup:
    """A control group that is gone at the end of a `with` block. enter() is for the process that shall be in it."""

    NAME = f"moiety-streaming-{os.getpid()}"

    def __init__(self, memory, disk, rate):
        """`memory` in bytes; `rate` in bytes a second, 0 for what the disk gives."""
        self.memory, self.disk, self.rate = memory, disk, rate

    def __enter__(self):
        for folder in self.folders():
            folder.mkdir(exist_ok=True)
        self.limit()
        return self

    def __exit__(self, *_):
        for folder in self.folders():
            folder.rmdir()

    def enter(self):
        for folder in self.folders():
            (folder / "cgroup.procs").write_text("0")


class CgroupV1(Cgroup):
    memory_root = blkio_root = None  # where the controllers are mounted

    def folders(self):
        return [self.memory_root / self.NAME, self.blkio_root / self.NAME]

    def limit(self):
        memory, blkio = self.folders()
        (memory / "memory.swappiness").write_text("0")
        (memory / "memory.limit_in_bytes").write_text(str(self.memory))
        if self.rate:
            (blkio / "blkio.throttle.read_bps_device").write_text(f"{self.disk.number} {self.rate}")

    def peak(self):
        return int((self.folders()[0] / "memory.max_usage_in_bytes").read_text())

    def was_killed(self):
        return "oom_kill 0" not in (self.folders()[0] / "memory.oom_control").read_text()


class CgroupV2(Cgroup):
    root = None

    def folders(self):
        return [self.root / self.NAME]

    def limit(self):
        folder = self.folders()[0]
        (self.root / "cgroup.subtree_control").write_text("+memory +io")
        (folder / "memory.max").write_text(str(self.memory))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
        if self.rate:
            (folder / "io.max").write_text(f"{self.disk.number} rbps={self.rate}")

    def peak(self):
        file = self.folders()[0] / "memory.peak"  # since Linux 5.19
        return int(file.read_text()) if file.exists() else None

    def was_killed(self):
        return "oom_kill 0" not in (self.folders()[0] / "memory.events").read_text()


def cgroup_class():
    """The version whose memory controller this machine has."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            CgroupV1.memory_root = Path(where)
        elif kind == "cgroup" and "blkio" in options.split(","):
            CgroupV1.blkio_root = Path(where)
        elif kind == "cgroup2" and "memory" in (Path(where) / "cgroup.controllers").read_text().split():
            CgroupV2.root = Path(where)
    if CgroupV1.memory_root and CgroupV1.blkio_root:
        return CgroupV1
    if CgroupV2.root:
        return CgroupV2
    raise SystemExit("there is no control group for memory on this machine")


def drop_page_cache():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
