"""Every environment is installed from a lock in which each file has a hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(path.name for path in (ROOT / "locks").glob("*.txt") if "==" in path.read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"run.txt": ["cpu"], "demo.txt": ["cpu", "export"], "test.txt": ["dev"], "bench.txt": ["cpu", "export"]}


def locked(name: str) -> dict[str, str]:
    """Return the version of each package of a lock."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", (ROOT / "locks" / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


def required(extras: list[str]) -> list[Requirement]:
    """Return the direct requirements of the package with extras."""
    found, pending = [Requirement(text) for text in PROJECT["dependencies"]], list(extras)
    while pending:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][pending.pop()]):
            if requirement.name == PROJECT["name"]:
                pending += requirement.extras
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_of_a_lock_is_pinned_and_has_hashes(name: str) -> None:
    text = (ROOT / "locks" / name).read_text()
    entries = re.sub(r"\\\n", "", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert entries
    pinned = re.compile(r"[A-Za-z0-9._-]+==[^ ;]+( ; [^-]*(-[^-]+)*?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries if not pinned.fullmatch(entry)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_index_and_no_folder(name: str) -> None:
    assert not re.search(r"://|^-|\bfile:", (ROOT / "locks" / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_the_package_requires(name: str) -> None:
    versions = locked(name) | {"torch": locked("torch.txt")["torch"]}
    wrong = [
        str(requirement)
        for requirement in required(EXTRAS[name])
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert wrong == [], "run: make lock"


@pytest.mark.parametrize("name", ["run.txt", "demo.txt"])
def test_smaller_environments_have_the_versions_of_the_test_environment(name: str) -> None:
    assert locked(name).items() <= locked("test.txt").items()


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_has_cuda_libraries(name: str) -> None:
    cuda = [
        line for line in (ROOT / "locks" / "cuda-libraries.txt").read_text().split("\n") if line[:1] not in ("#", "")
    ]
    assert locked(name).keys().isdisjoint(cuda)
