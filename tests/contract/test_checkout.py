from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_package_can_be_imported_in_the_root_of_a_checkout() -> None:
    program = (
        "import flipkd_sdk, flipkd_sdk.cli.main, flipkd_sdk.exporters; flipkd_sdk.Matcher; print(flipkd_sdk.__file__)"
    )
    # Without site-packages' own finders, which an editable install adds and which would find the parts as well.
    script = f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; {program}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "flipkd_sdk" / "__init__.py"
