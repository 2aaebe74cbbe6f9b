"""The service of the examples, under its own load run and under clients that send too much or too slowly."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny import write_tiny_matcher

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("fastapi", reason="the service needs: pip install 'flipkd-sdk[service]' httpx")
pytest.importorskip("uvicorn", reason="the service needs: pip install 'flipkd-sdk[service]' httpx")
httpx = pytest.importorskip("httpx", reason="the service needs: pip install 'flipkd-sdk[service]' httpx")

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


def test_every_score_under_load_is_the_score_of_the_matcher(tiny_matcher: Path) -> None:
    code, found, errors = put_load("--matcher", tiny_matcher)
    assert (code, found["passed"], found["ended_in_order"]) == (0, True, True), errors
    assert (found["requests"], found["failures"]) == (200, 0)
    assert found["largest_change"] <= 1e-6
    assert 0 < found["p50_seconds"] <= found["p99_seconds"]


def test_a_score_of_another_matcher_fails_the_load_test(url: str, tmp_path: Path) -> None:
    code, found, errors = put_load("--matcher", write_tiny_matcher(tmp_path / "other", seed=1), "--url", url)
    assert (code, found["passed"]) == (1, False)
    assert found["failures"] > 100
    assert "score moved by" in errors


def test_a_missing_service_fails_the_load_test(tiny_matcher: Path) -> None:
    code, found, errors = put_load("--matcher", tiny_matcher, "--url", "http://127.0.0.1:9")
    assert (code, found["passed"], found["failures"]) == (1, False, 200)
    assert "ConnectError" in errors


def test_growing_memory_fails_the_load_test(load: Any) -> None:
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
def test_a_body_that_cannot_be_scored_is_answered_422(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_request_in_progress_is_answered_before_the_service_ends(load: Any, tiny_matcher: Path) -> None:
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


@pytest.fixture(scope="module")
def strict(load: Any, tiny_matcher: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a service that gives a request half a second."""
    with load.service(tiny_matcher, "--request-timeout", "0.5", "--concurrency", "12") as (address, process):
        yield int(address.rpartition(":")[2]), process.pid


def received(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    connection.settimeout(30)
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a word": b"POS",
    "half the headers": HEAD,
    "half the body": HEAD + b'Content-Length: 20\r\n\r\n{"a": ',
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
    "half a second request": GET + b"GET /health",
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_a_request_that_does_not_arrive_in_time_is_given_up(strict: tuple[int, int], sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", strict[0]), timeout=30) as connection:
        connection.sendall(sent)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK") is sent.startswith(GET)
    assert b"HTTP/1.1 408" in answer


def test_clients_that_send_half_their_headers_block_nobody_for_long(strict: tuple[int, int]) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", strict[0]), timeout=30)) for _ in range(40)]
        for connection in slow:
            connection.sendall(HEAD)
        assert all(b" 408 " in received(connection) for connection in slow)
        assert httpx.get(f"http://127.0.0.1:{strict[0]}/health/live").json() == {"live": True}


def test_a_client_that_sends_letter_by_letter_is_given_up_too(strict: tuple[int, int]) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", strict[0]), timeout=30) as connection, contextlib.suppress(OSError):
        connection.settimeout(0.05)
        for letter in HEAD * 10:
            connection.send(bytes([letter]))
            with contextlib.suppress(TimeoutError):
                answer += connection.recv(65536)
                break
    assert b" 408 " in answer


def peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("chunked", [True, False])
def test_a_huge_body_is_refused_and_takes_no_memory(strict: tuple[int, int], chunked: bool) -> None:
    port, process = strict
    size, part = 48 << 20, bytes(1 << 20)
    before = peak_mb(process)

    def send(_caller: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            with contextlib.suppress(OSError):
                length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
                connection.sendall(HEAD + length + b"\r\n\r\n")
                for _ in range(size // len(part)):
                    connection.sendall(b"%x\r\n" % len(part) + part + b"\r\n" if chunked else part)
            return received(connection)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(8)))
    assert not any(b" 200 " in answer for answer in answers)
    assert peak_mb(process) - before < 32
    assert httpx.get(f"http://127.0.0.1:{port}/health/live").json() == {"live": True}


def test_a_body_above_the_limit_is_answered_413_and_one_below_is_read(url: str) -> None:
    text = "x" * 9_000
    whole = {"pairs": [{"a": text, "b": text}] * 14}
    assert httpx.post(f"{url}/score_pairs", json=whole, timeout=60).status_code == 200
    for body in (json.dumps({"pairs": whole["pairs"] * 2}).encode(), bytes(1 << 20)):
        for content in (body, iter([body])):
            answer = httpx.post(f"{url}/score_pairs", content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()) == (413, {"detail": "the request is larger than 262144 bytes"})


def test_several_pairs_are_scored_up_to_a_number(url: str, tiny_matcher: Path) -> None:
    pairs = [{"a": "PIN", "b": "card"}, {"a": "PIN", "b": ""}, {"a": "PIN", "b": "PIN"}]
    found = httpx.post(f"{url}/score_pairs", json={"pairs": pairs}).json()
    with Matcher.load(tiny_matcher) as matcher:
        expected = matcher.score_pairs([(pair["a"], pair["b"]) for pair in pairs])
    assert [answer["score"] for answer in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [answer["match"] for answer in found] == (expected >= 0.5).tolist()
    assert httpx.post(f"{url}/score_pairs", json={"pairs": []}).json() == []
    answer = httpx.post(f"{url}/score_pairs", json={"pairs": pairs * 100})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "pairs"])


@pytest.mark.parametrize("body", [b"[" * 200_000, b"1" * 200_000, b'{"a": 1e999}', b"\xff", b"\xef\xbb\xbf{}"])
def test_hostile_json_is_the_caller_s_error(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True
