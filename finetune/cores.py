"""How many cores this process may compute on: its affinity, and what its container is granted.

A container's CPU quota is no number of cores but a share of time: a process with a thread for each
of 64 cores and a quota of two runs a few milliseconds of every tenth of a second and then stands
still. The quota is a setting of the control group (cgroup), and of each group around it.

`joblib.cpu_count` does the same for the outermost group only, and so misses what systemd or Slurm
set for one service or job, and Python 3.13's `os.process_cpu_count` knows of no quota.

This module needs no torch.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOTS = (("sys/fs/cgroup", "/"), ("sys/fs/cgroup/cpu", "/"), ("sys/fs/cgroup/cpu,cpuacct", "/"))
"""Where groups usually are, and which one is seen there: where /proc does not say it."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy, at least 1.

    Half a core that a quota grants beyond whole ones counts as one, as joblib and the JVM count.

    Args:
        root: of the file system, for tests.
    """
    quota = cpu_quota(root)
    cores = _affinity()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _affinity() -> int:
    """Return the number of cores that this process may be scheduled on."""
    if sys.platform == "linux" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    if sys.platform == "win32":
        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1  # macOS has no affinity


def num_threads(wanted: int | None = None) -> int:
    """Return with how many threads to compute.

    Args:
        wanted: what the recipe or the command line says; it comes first. Then ``OMP_NUM_THREADS``
            counts, as for any program of OpenMP, and then `usable_cores`.
    """
    if wanted is not None:
        return wanted
    # a list is for nested parallel regions, of which torch has none
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isdecimal() and int(said) > 0 else usable_cores()


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the cores' worth of time that control groups grant this process; None for no limit.

    Read are ``cpu.max`` of version 2 (kernel documentation, admin-guide/cgroup-v2.rst) and
    ``cpu.cfs_quota_us`` of version 1 (scheduler/sched-bwc.rst), of the process's own group and of
    all groups around it that can be seen from here; the smallest counts. What cannot be read
    limits nothing.

    Args:
        root: of the file system, for tests.
    """
    groups = dict.fromkeys(group for mount in _mounts(root) for group in mount)
    quotas = [quota for group in groups if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def _mounts(root: Path) -> Iterator[list[Path]]:
    """Yield, of each hierarchy, the folders of this process's group and of those around it."""
    ours = _groups_of_this_process(root)
    mounted = list(_mounted(root)) or _ROOTS
    for where, shown in mounted:
        folder = root / where.lstrip("/")
        yield [folder]
        for path in ours:
            # a bind mount shows a part of the tree, in which paths begin at what it shows
            inside = path.removeprefix(shown.rstrip("/")) if path.startswith(shown) else path
            parts = [part for part in inside.split("/") if part]
            if ".." not in parts:  # a group outside of the namespace that this process sees
                yield [folder.joinpath(*parts[:depth]) for depth in range(len(parts), 0, -1)]


def _groups_of_this_process(root: Path) -> list[str]:
    """Return the paths in ``/proc/self/cgroup`` that have to do with processors."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or "cpu" in controllers.split(","):
            found.append(path)
    return found


def _mounted(root: Path) -> Iterator[tuple[str, str]]:
    """Yield where groups are mounted and which one is seen there, from ``/proc/self/mountinfo``."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "cpu" in kind[2].split(",")):
            shown, where = (_ESCAPED.sub(_unescape, field) for field in fields[3:5])
            yield where, shown


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def _quota_of(group: Path) -> float | None:
    """Return the cores' worth of time of one group; None for no limit."""
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (
            _read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        )
    if not (quota.isdecimal() and period.isdecimal()):  # "max", "-1", or nothing there
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
