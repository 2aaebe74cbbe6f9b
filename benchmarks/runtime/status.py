"""What Linux says of this process; apart from the rest, so that a program that is measured loads nothing else."""

from pathlib import Path


def resident_mb() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
