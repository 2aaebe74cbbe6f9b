"""The container's files name what exists: paths, extras, options, the health check. Docker itself is not run."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from flipkd_sdk.cli.commands.matching.serve import serve

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILES = pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])


def steps(name: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(instruction, argument) for instruction, _, argument in found]


def arguments(name: str, instruction: str) -> list[str]:
    return [argument for found, argument in steps(name) if found == instruction]


def copied(name: str) -> list[str]:
    return [source for argument in arguments(name, "COPY") for source in argument.split()[:-1]]


@DOCKERFILES
def test_what_is_copied_exists_and_is_all_that_the_package_consists_of(name: str) -> None:
    sources = copied(name)
    assert all((ROOT / source).exists() for source in sources)
    needed = {path.partition("/")[0] for path in PROJECT["tool"]["setuptools"]["package-dir"].values()}
    assert needed | {"pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"} == set(sources)


@DOCKERFILES
def test_the_ignore_file_admits_what_is_copied_and_nothing_else(name: str) -> None:
    lines = (FOLDER / f"{name}.dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied(name))
    others = [line for line in lines[1:] if not line.startswith("!")]
    assert not any(fnmatch(source, pattern) for source in copied(name) for pattern in others)


@DOCKERFILES
def test_the_extras_exist(name: str) -> None:
    (install,) = [argument for argument in arguments(name, "RUN") if "pip install" in argument]
    (extras,) = re.findall(r"'\.\[([^]]*)\]'", install)
    known = PROJECT["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()
    assert "serve" in extras
    (python,) = re.findall(r"^python:3\.(\d+)-slim$", arguments(name, "FROM")[0])
    assert int(python) >= int(PROJECT["project"]["requires-python"].removeprefix(">=3."))


@DOCKERFILES
def test_the_command_exists_with_its_options(name: str) -> None:
    (entry,) = arguments(name, "ENTRYPOINT")
    program, command, _, *given = json.loads(entry)
    assert program in PROJECT["project"]["scripts"]
    assert command == serve.name
    context = serve.make_context(command, [str(FOLDER), *given])
    assert context.params["host"] == "0.0.0.0"  # noqa: S104 - a container publishes chosen ports
    (port,) = arguments(name, "EXPOSE")
    assert int(port) == context.params["port"]
    assert (context.params["device"] == "cuda") == name.endswith("cuda")


@DOCKERFILES
def test_the_health_check_asks_for_a_path_that_needs_no_key(name: str) -> None:
    guard = pytest.importorskip("flipkd_sdk.runtimes.http.guard", reason="needs: pip install 'flipkd-sdk[serve]'")
    (check,) = arguments(name, "HEALTHCHECK")
    program = json.loads(check.removeprefix("CMD "))[-1]
    compile(program, "<health check>", "exec")
    (path,) = re.findall(r"http://127\.0\.0\.1:\d+(/\w+)", program)
    assert path in guard.OPEN


def test_both_images_differ_in_the_device_alone() -> None:
    cpu, cuda = steps("Dockerfile"), steps("Dockerfile.cuda")
    different = [instruction for (instruction, a), (_, b) in zip(cpu, cuda, strict=True) if a != b]
    assert different == ["RUN", "ENTRYPOINT"]


def test_the_compose_file_names_what_exists() -> None:
    yaml = pytest.importorskip("yaml")
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    (entry,) = arguments("Dockerfile", "ENTRYPOINT")
    ((_, mounted),) = re.findall(r"^\$\{(\w+)[^}]*\}:(/\w+):ro$", service["volumes"][0])
    assert mounted in json.loads(entry)
    (variable,) = service["environment"]
    assert variable in {f"FLIPKD_SERVE_{parameter.name}".upper() for parameter in serve.params}
    (port,) = service["ports"]
    assert port.startswith("127.0.0.1:") and port.endswith(f":{arguments('Dockerfile', 'EXPOSE')[0]}")
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > serve.make_context("serve", [str(FOLDER)]).params["stop_seconds"]
