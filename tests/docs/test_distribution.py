"""What is published: a source distribution that can be tested, and a long description that a package index can show."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "demo", "dist", "runs", "site", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source distribution."""
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "project", ignore=LEFT_OUT)
    if (ROOT / ".pre-commit-config.yaml").exists():
        shutil.copy(ROOT / ".pre-commit-config.yaml", copy)
    out = tmp_path_factory.mktemp("sdist")
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=copy, check=True, capture_output=True)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(out, filter="data")
    return next(path for path in out.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", ["tests", "docs", "examples", "locks", "benchmarks", "flipkd_sdk", "cli"])
def test_the_source_distribution_has_every_file_of_a_folder(sdist: Path, folder: str) -> None:
    def files(root: Path) -> set[str]:
        found = {path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()}
        return {name for name in found if "__pycache__" not in name and not name.endswith(".pyc")}

    assert files(ROOT) - files(sdist) == set()


def test_the_long_description_has_no_relative_link(sdist: Path) -> None:
    metadata = email.message_from_string((sdist / "PKG-INFO").read_text(encoding="utf-8"))
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert text.startswith("# flipkd_sdk")
    assert [target for target in re.findall(r"\]\(([^)]*)\)", text) if not target.startswith("https://")] == []


def test_no_project_url_is_published(sdist: Path) -> None:
    metadata = email.message_from_string((sdist / "PKG-INFO").read_text(encoding="utf-8"))
    assert metadata.get_all("Project-URL") is None
    assert metadata["Home-page"] is None
