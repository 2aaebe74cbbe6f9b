"""Instruction sets of this CPU that int8 arithmetic depends on.

An int8 model is verified for a class of machines: without one of the dot-product sets (VNNI, AMX, or ARM's ``asimddp``
and ``i8mm``) the same file runs on other kernels, with other saturation.
"""

from __future__ import annotations

from pathlib import Path

_NAMES = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "asimddp": "asimddp",
    "i8mm": "i8mm",
}


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return this CPU's sets among avx2, avx512f, avx512_vnni, avx_vnni, amx_int8, neon, asimddp and i8mm.

    Returns:
        Names in that order; empty without ``/proc/cpuinfo``, as on macOS and Windows.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found: set[str] = set()
    for line in lines:
        key, _, value = line.partition(":")
        # x86 kernels list "flags", ARM kernels "Features", once per core.
        if key.strip() in ("flags", "Features"):
            found.update(value.split())
    return tuple(name for flag, name in _NAMES.items() if flag in found)
