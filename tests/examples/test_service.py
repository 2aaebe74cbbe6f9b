"""The service of the examples under its own load run; skipped where what it is made of is not installed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny import write_tiny_matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("fastapi", reason="the service needs: pip install fastapi uvicorn httpx")
pytest.importorskip("uvicorn", reason="the service needs: pip install fastapi uvicorn httpx")
httpx = pytest.importorskip("httpx", reason="the service needs: pip install fastapi uvicorn httpx")

FOLDER = Path(__file__).parents[2] / "examples" / "service"


def put_load(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, FOLDER / "load.py", "--requests", "200", "--callers", "8", "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    import load

    yield load
    sys.path.remove(str(FOLDER))
    del sys.modules["load"]


@pytest.fixture(scope="module")
def url(load: Any, tiny_matcher: Path) -> Iterator[str]:
    with load.service(tiny_matcher) as (address, _):
        yield address


def test_under_load_every_score_is_the_matcher_s_own(tiny_matcher: Path) -> None:
    code, found, errors = put_load("--matcher", tiny_matcher)
    assert (code, found["passed"], found["ended_in_order"]) == (0, True, True), errors
    assert (found["requests"], found["failures"]) == (200, 0)
    assert found["largest_change"] <= 1e-6
    assert 0 < found["p50_seconds"] <= found["p99_seconds"]


def test_another_score_than_the_matcher_s_own_is_a_failure(url: str, tmp_path: Path) -> None:
    code, found, errors = put_load("--matcher", write_tiny_matcher(tmp_path / "other", seed=1), "--url", url)
    assert (code, found["passed"]) == (1, False)
    assert found["failures"] > 100
    assert "score moved by" in errors


def test_a_service_that_is_not_there_is_a_failure(tiny_matcher: Path) -> None:
    code, found, errors = put_load("--matcher", tiny_matcher, "--url", "http://127.0.0.1:9")
    assert (code, found["passed"], found["failures"]) == (1, False, 200)
    assert "ConnectError" in errors


def test_more_memory_at_the_end_is_a_failure(load: Any) -> None:
    def passed(*resident: float | None) -> bool:
        measured = load.Load("", {}, seconds=[0.1, 0.2], total_seconds=1.0, resident_mb=[*resident])
        return bool(measured.report()["passed"])

    assert passed(100.0, 104.0)
    assert passed(None, None)
    assert not passed(100.0, 106.0)


def test_health_and_ranking(url: str) -> None:
    assert httpx.get(f"{url}/health/live").json() == {"live": True}
    assert httpx.get(f"{url}/health/ready").json() == {"ready": True}
    found = httpx.post(f"{url}/rank", json={"text": "PIN", "top_k": 2}).json()
    assert [set(match) for match in found] == [{"index", "text", "score"}] * 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "x"}',
        b'{"a": "x", "b": null}',
        b"{",
        b'{"a": "\\ud800", "b": "x"}',
        b'{"a": "' + b"x" * 10_001 + b'", "b": ""}',
    ],
    ids=["a text missing", "null", "no JSON", "half a surrogate pair", "too long"],
)
def test_what_cannot_be_scored_is_the_caller_s_error(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_request_that_has_begun_is_answered_before_the_end(load: Any, tiny_matcher: Path) -> None:
    body = json.dumps({"a": "PIN", "b": "PIN"}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with load.service(tiny_matcher) as (url, process):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode() + body[:5])
            # What was sent before was read before.
            assert httpx.get(f"{url}/health/live").is_success
            process.terminate()
            while listens(port):
                time.sleep(0.01)
            connection.sendall(body[5:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b" 200 OK" in answer
        assert b'"match":true' in answer
        assert load.ends_in_order(process)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True
