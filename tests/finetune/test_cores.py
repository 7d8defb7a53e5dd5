"""Threads: what the recipe says, else OMP_NUM_THREADS, else affinity and the container's quota."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from finetune import cores


def machine(folder: Path, files: dict[str, str]) -> Path:
    """Write the files of a made-up machine, by their absolute paths."""
    for name, text in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def mounts(kind: str, where: str, shown: str = "/", options: str = "rw") -> str:
    """One line of mountinfo among others."""
    other = "24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n"
    return f"{other}30 24 0:26 {shown} {where} rw,nosuid shared:4 - {kind} {kind} {options}\n"


V2 = mounts("cgroup2", "/sys/fs/cgroup")
V1 = mounts("cgroup", "/sys/fs/cgroup/cpu,cpuacct", options="rw,cpu,cpuacct")
CPU_V1 = "/sys/fs/cgroup/cpu,cpuacct"

MACHINES = {
    "no limit": ({"/proc/self/mountinfo": V2, "/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "a container of version 2": (
        {
            "/proc/self/mountinfo": V2,
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "a service of systemd, inside a slice with less": (
        {
            "/proc/self/mountinfo": V2,
            "/proc/self/cgroup": "0::/jobs.slice/train.service\n",
            "/sys/fs/cgroup/jobs.slice/cpu.max": "150000 100000\n",
            "/sys/fs/cgroup/jobs.slice/train.service/cpu.max": "400000 100000\n",
        },
        1.5,
    ),
    "a container of version 1, which sees its own group as the root": (
        {
            "/proc/self/mountinfo": mounts(
                "cgroup", CPU_V1, shown="/docker/1f", options="rw,cpu,cpuacct"
            ),
            "/proc/self/cgroup": "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n",
            f"{CPU_V1}/cpu.cfs_quota_us": "300000\n",
            f"{CPU_V1}/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "a group inside a container of version 1": (
        {
            "/proc/self/mountinfo": mounts(
                "cgroup", CPU_V1, shown="/docker/1f", options="rw,cpu,cpuacct"
            ),
            "/proc/self/cgroup": "5:cpu,cpuacct:/docker/1f/job\n",
            f"{CPU_V1}/cpu.cfs_quota_us": "300000\n",
            f"{CPU_V1}/cpu.cfs_period_us": "100000\n",
            f"{CPU_V1}/job/cpu.cfs_quota_us": "50000\n",
            f"{CPU_V1}/job/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    "version 1 without a limit": (
        {
            "/proc/self/mountinfo": V1,
            "/proc/self/cgroup": "5:cpu,cpuacct:/\n",
            f"{CPU_V1}/cpu.cfs_quota_us": "-1\n",
            f"{CPU_V1}/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "no /proc, version 2": ({"/sys/fs/cgroup/cpu.max": "100000 50000\n"}, 2.0),
    "no /proc, version 1": (
        {
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        4.0,
    ),
    "a group outside of what the process sees": (
        {
            "/proc/self/mountinfo": V2,
            "/proc/self/cgroup": "0::/../other\n",
            "/sys/fs/cgroup/cpu.max": "100000 100000",
        },
        1.0,
    ),
    "no Linux": ({}, None),
    "garbage": (
        {
            "/proc/self/mountinfo": "- \n\n" + V2,
            "/proc/self/cgroup": "nothing\n\n:",
            "/sys/fs/cgroup/cpu.max": "0 0 0",
        },
        None,
    ),
}


@pytest.mark.parametrize(("files", "quota"), MACHINES.values(), ids=MACHINES)
def test_the_smallest_quota_of_all_groups_around_a_process_counts(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cores.cpu_quota(machine(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "wanted"), [(50, 1), (100, 1), (150, 2), (1000, 8), (0, 8)])
def test_cores_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: int, wanted: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    root = machine(tmp_path, {"/sys/fs/cgroup/cpu.max": f"{quota or 'max'} 100"})
    assert cores.usable_cores(root) == wanted


def test_a_system_without_affinity_has_the_cores_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.usable_cores(tmp_path) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("said", "threads"),
    [("3", 3), ("2,4", 2), ("", 7), ("0", 7), ("-1", 7), ("many", 7), (None, 7)],
)
def test_the_environment_counts_where_the_recipe_says_nothing(
    monkeypatch: pytest.MonkeyPatch, said: str | None, threads: int
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 7)
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores.num_threads() == threads
    assert cores.num_threads(5) == 5
