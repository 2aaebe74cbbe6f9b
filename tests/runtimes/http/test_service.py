"""``flipkd serve``: answers, limits and replacements, under load and under clients that send too much or too slowly."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from served import FLIPKD, running
from tiny import TEXTS, write_tiny_matcher

from flipkd_sdk import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("uvicorn", reason="the service needs: pip install 'flipkd-sdk[serve]' httpx")
pytest.importorskip("prometheus_client", reason="the service needs: pip install 'flipkd-sdk[serve]' httpx")
httpx = pytest.importorskip("httpx", reason="the service needs: pip install 'flipkd-sdk[serve]' httpx")

KEY = "correct horse battery"
LIMITS = ("--max-pairs", "256", "--max-characters", "10000", "--max-body", str(256 << 10))


@pytest.fixture(scope="module")
def url(tiny_matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    candidates = tmp_path_factory.mktemp("candidates") / "faq.txt"
    candidates.write_text("\n".join(text for text in TEXTS if text.strip()), encoding="utf-8")
    with running("serve", tiny_matcher, "--candidates", candidates, *LIMITS) as (address, _):
        yield address


@pytest.fixture(scope="module")
def matcher(tiny_matcher: Path) -> Iterator[Matcher]:
    with Matcher.load(tiny_matcher, on_truncate="ignore") as opened:
        yield opened


def test_every_endpoint_answers_as_the_matcher_does(url: str, matcher: Matcher) -> None:
    a, b = TEXTS[0], TEXTS[1]
    score = matcher.score(a, b)
    found = httpx.post(f"{url}/score", json={"a": a, "b": b}).json()
    assert found == {"score": pytest.approx(score, abs=1e-6), "match": score >= matcher.threshold}
    vectors = matcher.encode([a, b])
    found = httpx.post(f"{url}/encode", json={"texts": [a, b]}).json()
    np.testing.assert_allclose(found["vectors"], vectors, atol=1e-6)
    assert found["identity"] == matcher.identity
    found = httpx.post(f"{url}/rank", json={"query": a, "top_k": 2}).json()["matches"]
    expected = matcher.rank(a, [text for text in TEXTS if text.strip()], top_k=2)
    assert [match["text"] for match in found] == [match.text for match in expected]
    found = httpx.post(f"{url}/explain", json={"a": a, "b": b}).json()
    assert found["score"] == pytest.approx(score, abs=1e-6)
    assert found["baseline"] + np.sum(found["contributions"]) == pytest.approx(found["cosine"], abs=1e-6)
    assert found["baseline"] != 0
    assert 'class="explanation"' in found["html"]


@pytest.mark.parametrize("texts", ["one", ["one", "two"]])
def test_embeddings_have_the_form_of_openais_api(url: str, matcher: Matcher, texts: Any) -> None:
    body = {"input": texts, "model": "any", "user": "x", "encoding_format": "base64"}
    found = httpx.post(f"{url}/v1/embeddings", json=body).json()
    expected = matcher.encode([texts] if isinstance(texts, str) else texts)
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in found["data"]]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert [row["index"] for row in found["data"]] == list(range(len(expected)))
    del body["encoding_format"]
    floats = httpx.post(f"{url}/v1/embeddings", json=body).json()
    np.testing.assert_allclose([row["embedding"] for row in floats["data"]], expected, atol=1e-6)
    assert httpx.post(f"{url}/v1/embeddings", json={**body, "dimensions": 3}).status_code == 422
    assert httpx.post(f"{url}/v1/embeddings", json={**body, "input": [[1, 2]]}).status_code == 422


def test_every_score_under_load_is_the_score_of_the_matcher(url: str, matcher: Matcher) -> None:
    pairs = [(TEXTS[i % len(TEXTS)], TEXTS[(3 * i) % len(TEXTS)]) for i in range(100)]
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(16) as pool:
        scores = pool.map(lambda pair: client.post("/score", json={"a": pair[0], "b": pair[1]}).json()["score"], pairs)
        np.testing.assert_allclose(list(scores), matcher.score_pairs(pairs), atol=1e-6)
    page = httpx.get(f"{url}/metrics").text
    assert 'flipkd_request_seconds_count{route="/score",status="200"}' in page
    for name in ("flipkd_batch_calls_count", "flipkd_score_count", "flipkd_requests_in_progress 1.0"):
        assert name in page
    batches = {line.split()[0]: float(line.split()[1]) for line in page.splitlines() if line.startswith("flipkd_batch")}
    assert batches["flipkd_batch_calls_sum"] > batches["flipkd_batch_calls_count"]


def test_truncated_texts_are_counted(url: str) -> None:
    assert httpx.post(f"{url}/score", json={"a": "word " * 100, "b": "x"}).is_success
    (line,) = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith("flipkd_truncated")]
    assert float(line.split()[1]) >= 1


def test_the_openapi_document_lists_every_endpoint_with_its_limits(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path, methods in document["paths"].items():
        for method in methods:
            body = {"content": b"", "headers": {"content-type": "text/plain"}} if method == "post" else {}
            answer = httpx.request(method, url + path, **body)
            assert answer.status_code in (200, 403, 415), path
    pairs = document["paths"]["/pairs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert pairs["properties"]["pairs"]["maxItems"] == 256


def test_a_server_without_candidates_says_how_to_load_some(tiny_matcher: Path) -> None:
    with running("serve", tiny_matcher) as (address, _):
        answer = httpx.post(f"{address}/rank", json={"query": "x"})
    assert answer.status_code == 404
    assert "--candidates" in answer.json()["error"]["message"]


def test_health(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"alive": True}
    assert httpx.get(f"{url}/readyz").json() == {"ready": True, "reload_error": None}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "x"}',
        b'{"a": "x", "b": null}',
        b'{"a": "x", "b": 3}',
        b'{"a": "x", "b": "y", "c": "z"}',
        b'["x", "y"]',
        b'{"a": "' + b"x" * 10_001 + b'", "b": ""}',
    ],
    ids=["a text missing", "null", "a number", "an unknown key", "a list", "too long"],
)
def test_a_body_that_cannot_be_scored_is_answered_422_and_named(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("body")


def test_hostile_texts_score_and_come_back_escaped(url: str) -> None:
    hostile = "<script>alert(1)</script>\ud800\x00\u202e"
    body = json.dumps({"a": hostile, "b": "<img src=x onerror=alert(1)>"}).encode()
    found = httpx.post(f"{url}/explain", content=body, headers={"content-type": "application/json"}).json()
    assert found["a"].startswith("<script>")
    assert "<script" not in found["html"] and "<img" not in found["html"]


def test_another_content_type_is_refused(url: str) -> None:
    # A form of another site cannot send JSON with its own type.
    answer = httpx.post(f"{url}/score", content=b'{"a": "x", "b": "y"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_wrong_path_or_method_is_named(url: str) -> None:
    assert httpx.get(f"{url}/nothing").status_code == 404
    assert httpx.get(f"{url}/score").status_code == 405
    assert "/openapi.json" in httpx.get(f"{url}/score").json()["error"]["message"]


def test_a_request_in_progress_is_answered_before_the_service_ends(tiny_matcher: Path) -> None:
    body = json.dumps({"a": "PIN", "b": "PIN"}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with running("serve", tiny_matcher) as (url, process):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode() + body[:5])
            # What was sent before was read before.
            assert httpx.get(f"{url}/healthz").is_success
            process.terminate()
            while listens(port):
                time.sleep(0.01)
            connection.sendall(body[5:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b" 200 OK" in answer
        assert b'"match":true' in answer
        assert process.wait(60) == 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def strict(tiny_matcher: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a service that gives a request half a second."""
    options = ("--request-seconds", "0.5", "--max-connections", "12", *LIMITS)
    with running("serve", tiny_matcher, *options) as (address, process):
        yield int(address.rpartition(":")[2]), process.pid


def received(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    connection.settimeout(30)
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a word": b"POS",
    "half the headers": HEAD,
    "half the body": HEAD + b'Content-Length: 20\r\n\r\n{"a": ',
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
    "half a second request": GET + b"GET /healt",
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
        assert httpx.get(f"http://127.0.0.1:{strict[0]}/healthz").json() == {"alive": True}


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
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"alive": True}


def test_a_body_above_the_limit_is_answered_413_and_one_below_is_read(url: str) -> None:
    text = "x" * 9_000
    whole = {"pairs": [{"a": text, "b": text}] * 14}
    assert httpx.post(f"{url}/pairs", json=whole, timeout=60).status_code == 200
    for body in (json.dumps({"pairs": whole["pairs"] * 2}).encode(), bytes(1 << 20)):
        for content in (body, iter([body])):
            answer = httpx.post(f"{url}/pairs", content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["error"]["message"] == "the body is larger than 262144 bytes"


def test_several_pairs_are_scored_up_to_a_number(url: str, tiny_matcher: Path) -> None:
    pairs = [{"a": "PIN", "b": "card"}, {"a": "PIN", "b": ""}, {"a": "PIN", "b": "PIN"}]
    found = httpx.post(f"{url}/pairs", json={"pairs": pairs}).json()["results"]
    with Matcher.load(tiny_matcher) as matcher:
        expected = matcher.score_pairs([(pair["a"], pair["b"]) for pair in pairs])
    assert [answer["score"] for answer in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [answer["match"] for answer in found] == (expected >= 0.5).tolist()
    assert httpx.post(f"{url}/pairs", json={"pairs": []}).json() == {"results": []}
    answer = httpx.post(f"{url}/pairs", json={"pairs": pairs * 100})
    assert answer.status_code == 422
    assert "body.pairs has 300 items; at most 256" in answer.json()["error"]["message"]


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


def test_half_sent_headers_of_600_clients_hold_up_nobody(url: str) -> None:
    port = int(url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)).sendall(HEAD[:40])
        assert httpx.post(f"{url}/score", json={"a": "x", "b": "y"}, timeout=30).is_success


def test_more_requests_than_the_queue_takes_are_answered_429(tiny_matcher: Path) -> None:
    with running("serve", tiny_matcher, "--max-queue", "1") as (url, _):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as waiting:
            waiting.sendall(HEAD + b"Content-Length: 10\r\n\r\n")
            until = time.monotonic() + 30
            while (answer := httpx.post(f"{url}/score", json={"a": "x", "b": "y"})).status_code != 429:
                assert time.monotonic() < until
        assert answer.headers["retry-after"] == "1"
        assert httpx.get(f"{url}/readyz").is_success


def test_large_bodies_together_are_bounded(tiny_matcher: Path) -> None:
    import asyncio

    from flipkd_sdk.runtimes.http.limits import BodyLimit

    statuses = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        statuses.append(200)

    limit = BodyLimit(inner, max_bytes=80, max_total=100)

    async def request(size: int, gate: asyncio.Event) -> None:
        parts = [{"type": "http.request", "body": b"x" * size, "more_body": True}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await gate.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await limit({"type": "http", "method": "POST", "headers": []}, receive, send)

    async def both() -> None:
        gate = asyncio.Event()
        first = asyncio.create_task(request(60, gate))
        await asyncio.sleep(0)
        await request(60, gate)
        gate.set()
        await first
        await request(60, gate)

    asyncio.run(both())
    assert statuses == [429, 200, 200]


def test_a_key_is_required_of_every_request_but_health(tiny_matcher: Path) -> None:
    with running("serve", tiny_matcher, key=KEY) as (url, _):
        body = {"a": "x", "b": "y"}
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": "é"}):
            encoded = {name: value.encode() for name, value in headers.items()}
            answer = httpx.post(f"{url}/score", json=body, headers=encoded)
            assert answer.status_code == 401
            assert "Authorization: Bearer" in answer.json()["error"]["message"]
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert httpx.post(f"{url}/score", json=body, headers=headers).is_success
        for path, status in {"/healthz": 200, "/readyz": 200, "/": 200, "/metrics": 401, "/openapi.json": 401}.items():
            assert httpx.get(url + path).status_code == status
        assert httpx.post(f"{url}/reload").status_code == 401


def test_a_matcher_is_replaced_under_load_and_a_broken_one_is_not(tmp_path: Path) -> None:
    first, second = (write_tiny_matcher(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two")))
    body, key = {"a": TEXTS[0], "b": TEXTS[1]}, {"authorization": f"Bearer {KEY}"}
    expected = []
    for path in (first, second):
        with Matcher.load(path) as opened:
            expected.append(opened.score(TEXTS[0], TEXTS[1]))
    assert abs(expected[0] - expected[1]) > 1e-4
    link = tmp_path / "current"
    link.symlink_to(first)

    def switch(target: Path) -> None:
        (tmp_path / "next").symlink_to(target)
        (tmp_path / "next").replace(link)

    with (
        running("serve", link, key=KEY) as (url, process),
        httpx.Client(base_url=url, headers=key, timeout=60) as client,
    ):

        def ask(_: int) -> float:
            answer = client.post("/score", json=body)
            assert answer.status_code == 200, answer.text
            return float(answer.json()["score"])

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, i) for i in range(200)]
            for target in (second, first, second):
                switch(target)
                assert client.post("/reload").json() == {"reloaded": True}
            scores = np.array([one.result() for one in asked])
        assert (np.abs(scores[:, None] - expected).min(axis=1) < 1e-6).all()
        assert ask(0) == pytest.approx(expected[1], abs=1e-6)
        broken = write_tiny_matcher(tmp_path / "broken")
        (broken / "tokenizer.json").write_text("{}", encoding="utf-8")
        switch(broken)
        refused = client.post("/reload")
        assert refused.status_code == 503
        assert "tokenizer.json" in refused.json()["error"]["message"]
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "tokenizer.json" in ready.json()["reload_error"]
        assert ask(0) == pytest.approx(expected[1], abs=1e-6)
        switch(first)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while client.get("/readyz").json()["reload_error"] is not None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert ask(0) == pytest.approx(expected[0], abs=1e-6)
        page = client.get("/metrics").text
        assert 'flipkd_reloads_total{outcome="done"} 4.0' in page
        assert 'flipkd_reloads_total{outcome="failed"} 1.0' in page


@pytest.mark.parametrize("key", [None, KEY])
def test_the_page_opens_the_session_of_explanations_unless_a_key_protects_it(
    tiny_matcher: Path, key: str | None
) -> None:
    import asyncio

    from flipkd_sdk.runtimes.http.app import Service, ServiceOptions

    service = Service(ServiceOptions(directory=tiny_matcher, load={"device": "cpu"}, api_key=key))

    async def use() -> bool:
        request: Any = None
        assert (await service.page(request)).status_code == 200
        await asyncio.gather(*service._tasks)
        async with service.models.borrow() as loaded:
            opened = loaded.matcher._explainer is not None
        await service.models.close()
        return opened

    assert asyncio.run(use()) is (key is None)


def failed(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [*FLIPKD, "serve", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("flipkd: error: ")
    return line


def test_what_cannot_start_is_one_line(tiny_matcher: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use; name another with --port" in failed(
            tiny_matcher, "--port", str(port)
        )
    assert "shorter than 16 characters" in failed(tiny_matcher, FLIPKD_SERVE_API_KEY="short")
    assert "nothing: no such directory" in failed(tmp_path / "nothing", "--port", "0")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert "latin.txt: not UTF-8" in failed(tiny_matcher, "--port", "0", "--candidates", tmp_path / "latin.txt")
    assert "cannot listen on" in failed(tiny_matcher, "--host", "192.0.2.1")
