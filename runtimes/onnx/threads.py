"""How many threads this process may really use.

onnxruntime sizes its pool from the host's cores. In a container that is wrong twice over: the process may be pinned to
some of them, and its cgroup may be granted less CPU time than they give. Threads beyond that are throttled in the
middle of a matrix product while the others wait for them.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def available_threads(root: Path = Path("/")) -> int:
    """CPU affinity, cut down to the whole CPUs of the cgroup's quota; at least 1.

    Args:
        root: where ``proc`` and ``sys/fs/cgroup`` are looked up.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cgroup_cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroups of this process grant it, version 1 or 2; None if they set no limit.

    A limit on any ancestor holds as well, so the smallest one on the way up counts. A container often sees the path of
    its cgroup as the host knows it while its own is mounted at the top; the way up ends there too.
    """
    try:
        # As file names are decoded: a group may have any name, and a locale may be ASCII.
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
