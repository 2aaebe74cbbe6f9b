"""Install the built wheel from its lock into an environment of its own and score a table there: ``make dist``."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from tiny import write_tiny_matcher  # noqa: E402

from flipkd_sdk import Matcher  # noqa: E402

PAIRS = [("card lost", "my card is gone"), ("card lost", "close my account")]


def main(dist: Path) -> None:
    """Raise if the wheel of ``dist`` scores otherwise than the sources do."""
    (wheel,) = dist.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        matcher = write_tiny_matcher(work / "matcher", precisions=("int8",))
        (work / "pairs.csv").write_text("text_a,text_b\n" + "".join(f"{a},{b}\n" for a, b in PAIRS))
        venv.create(work / "environment", with_pip=True)
        python = work / "environment" / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--requirement", ROOT / "locks" / "run.txt"], check=True)
        subprocess.run([*pip, wheel.resolve()], check=True)
        flipkd = work / "environment" / "bin" / "flipkd"
        subprocess.run([flipkd, "score", matcher, "pairs.csv", "--out", "scored.csv"], check=True, cwd=work)
        with (work / "scored.csv").open(newline="") as file:
            scores = [float(row["score"]) for row in csv.DictReader(file)]
        with Matcher.load(matcher) as loaded:
            expected = loaded.score_pairs(PAIRS)
    if any(abs(score - float(other)) > 1e-6 for score, other in zip(scores, expected, strict=True)):
        raise SystemExit(f"{wheel.name}: scores {scores}, but the sources score {expected.tolist()}")
    print(f"{wheel.name}: installed from locks/run.txt, scored {len(scores)} pairs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
