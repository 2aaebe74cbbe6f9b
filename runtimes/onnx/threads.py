"""Number of threads that this process may use.

onnxruntime sizes its pool from the host's cores. A container may be pinned to some of them, and its cgroup may have a
quota of less CPU time. Threads beyond that are throttled in the middle of a matrix product while the others wait.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def available_threads(root: Path = Path("/")) -> int:
    """Return the number of CPUs in the affinity mask, at most the cgroup's quota rounded down, and at least 1.

    Args:
        root: directory of ``proc`` and ``sys/fs/cgroup``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cgroup_cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process in CPUs, from cgroups of version 1 or 2; None without a limit.

    Limits of ancestors hold as well, so the result is the smallest one up to the root. A container often sees the
    host's path of its cgroup while its own is mounted at the root, which is read too.
    """
    try:
        # Decoded like file names: a group may have any name, and the locale may be ASCII.
        lines = os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts, read = ("", "unified"), _version_2_limit
        elif "cpu" in controllers.split(","):
            mounts, read = (controllers, "cpu"), _version_1_limit
        else:
            continue
        steps = [step for step in PurePosixPath(path).parts if step not in ("/", "..")]
        for mount in mounts:
            group = root / "sys/fs/cgroup" / mount
            limits += [read(group.joinpath(*steps[:depth])) for depth in range(len(steps) + 1)]
    return min((limit for limit in limits if limit is not None), default=None)


def _version_2_limit(group: Path) -> float | None:
    match _words(group / "cpu.max"):
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    return None


def _version_1_limit(group: Path) -> float | None:
    match _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us"):
        case [quota], [period] if int(quota) > 0:
            return int(quota) / int(period)
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
