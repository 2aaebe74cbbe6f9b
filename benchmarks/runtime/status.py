"""What Linux says of this process; apart from the rest, so that a program that is measured loads nothing else."""

from pathlib import Path


def resident_mb(process: int | str = "self") -> float:
    """Resident memory of a process; 0 of one that has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
