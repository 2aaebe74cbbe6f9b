"""Check every lock against the database of known vulnerabilities: ``make audit``.

Exit status 1 reports a vulnerability, 2 a lock that could not be audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).resolve().parent


def audit(pip_audit: str, lock: Path) -> int:
    """Print what is known about one lock's packages and return the exit status."""
    command = [pip_audit, "--progress-spinner", "off", "--disable-pip", "--require-hashes", "--format", "json"]
    done = subprocess.run([*command, "--requirement", str(lock)], capture_output=True, text=True, check=False)
    packages = json.loads(done.stdout)["dependencies"] if done.stdout.startswith("{") else []
    audited = [package for package in packages if "vulns" in package]
    found = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{lock.name}: {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    if not audited:
        reason = f"it has no data on {len(packages)} packages" if packages else done.stderr.strip().split("\n")[-1]
        print(f"{lock.name}: not audited, because the vulnerability service cannot be reached from here: {reason}")
        return 2
    print(f"{lock.name}: {len(audited)} of {len(packages)} packages audited, {len(found)} vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(max(audit(sys.argv[1], lock) for lock in sorted(LOCKS.glob("*.txt")) if "==" in lock.read_text()))
