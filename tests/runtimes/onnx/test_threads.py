from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from flipkd_sdk.runtimes.onnx.threads import available_threads, cgroup_cpu_quota

if TYPE_CHECKING:
    from pathlib import Path


def fake(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


V1_LINES = "5:memory:/a/b\n4:cpu,cpuacct:/a/b\n3:cpuset:/a/b\n1:name=systemd:/a"

CASES = {
    "nothing mounted": ({}, None),
    "version 2, no limit": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
    "version 2": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5),
    "version 2, limit on an ancestor": (
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/cpu.max": "150000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
        },
        1.5,
    ),
    "version 2, the host's path over the container's own mount": (
        {"proc/self/cgroup": "0::/../../pod/c", "sys/fs/cgroup/cpu.max": "300000 100000"},
        3.0,
    ),
    "version 2 beside version 1": (
        {"proc/self/cgroup": "1:name=systemd:/\n0::/a", "sys/fs/cgroup/unified/a/cpu.max": "100000 100000"},
        1.0,
    ),
    "version 1": (
        {
            "proc/self/cgroup": V1_LINES,
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "350000",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        },
        3.5,
    ),
    "version 1 below /cpu, container's own mount": (
        {
            "proc/self/cgroup": V1_LINES,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
        },
        2.0,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": V1_LINES,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_quota_is_read_from_either_version_of_cgroups(case: str, tmp_path: Path) -> None:
    files, expected = CASES[case]
    assert cgroup_cpu_quota(fake(tmp_path, files)) == expected


def test_a_group_may_have_a_name_in_no_encoding(tmp_path: Path) -> None:
    fake(tmp_path, {"proc/self/cgroup": "", "sys/fs/cgroup/cpu.max": "200000 100000"})
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/caf\xe9\n")
    group = tmp_path / "sys/fs/cgroup" / os.fsdecode(b"caf\xe9")
    group.mkdir()
    (group / "cpu.max").write_text("100000 100000\n")
    assert cgroup_cpu_quota(tmp_path) == 1.0


@pytest.mark.parametrize(("quota", "expected"), [("max", 8), ("50000", 1), ("250000", 2), ("9900000", 8)])
def test_threads_are_the_affinity_within_the_quota(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = fake(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert available_threads(root) == expected


def test_without_an_affinity_the_machine_s_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads(tmp_path) == 6
