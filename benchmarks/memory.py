"""Memory and processor time of a process; imports nothing else, so that a measured program loads only what it uses."""

import os
from pathlib import Path

RESIDENT, PEAK = "VmRSS", "VmHWM"


def memory_mb(field: str = RESIDENT, process: int | str = "self") -> float:
    """Return a field of ``/proc/PROCESS/status`` in MB (10⁶ bytes), or 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:")), 0.0)


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has used, in steps of a hundredth of a second."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
