"""``flipkd serve`` and ``flipkd label`` against clients that speak HTTP badly, too much or too slowly."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from served import FLIPKD, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("uvicorn", reason="the service needs: pip install 'flipkd-sdk[serve]' httpx")
httpx = pytest.importorskip("httpx", reason="the service needs: pip install 'flipkd-sdk[serve]' httpx")

BODY = json.dumps({"a": "PIN", "b": "card"}).encode()
POST = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port(tiny_matcher: Path) -> Iterator[int]:
    """Port of a service that gives a request three seconds, enough for a busy machine, and takes large bodies."""
    options = ("--request-seconds", "3", "--max-body", str(64 << 20))
    with running("serve", tiny_matcher, *options) as (address, _):
        yield int(address.rpartition(":")[2])


@pytest.fixture(autouse=True)
def alive(port: int) -> Iterator[None]:
    """The service answers after each test."""
    yield
    assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).is_success


def exchange(port: int, *parts: bytes) -> bytes:
    """Send parts on one connection, and return all that is answered until the service closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            with contextlib.suppress(ConnectionError):
                connection.sendall(part)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    ],
    ids=["a long address", "a long header", "many headers"],
)
def test_headers_above_16_kib_are_answered_400(port: int, head: bytes) -> None:
    assert statuses(exchange(port, head)) == [400]


def test_a_header_without_end_is_cut_off_long_before_it_fills_the_memory(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nA: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 1 << 26:
                sent += connection.send(b"x" * 65536)
    assert sent < 1 << 26


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + BODY,
        POST + b"Content-Length: 5\r\n\r\n" + BODY,
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  /  HTTP/1.1  \r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=[
        *("two lengths of a body", "two different lengths", "a negative length", "a length in hex", "a wrong chunk"),
        *("a NUL in a name", "a space before a colon", "TLS", "HTTP/2", "spaces", "another protocol"),
    ],
)
def test_what_proxies_read_differently_is_refused_and_the_connection_closed(port: int, head: bytes) -> None:
    answer = exchange(port, head)
    assert statuses(answer) == [400]
    assert b"connection: close" in answer.lower()


def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n").replace(b"/healthz", b"/nothing")
    answer = exchange(port, (POST + b"\r\n" + BODY + GET) * 20 + last)
    assert statuses(answer) == [200, 200] * 20 + [404]
    assert answer.count(b'"match":') == answer.count(b'{"alive":true}') == 20


def test_an_answer_outlasts_the_deadline_of_the_request_behind_it(port: int) -> None:
    # To read texts of 8 MB takes about as long as a request may take to arrive.
    pairs = [{"a": f"{i} a {'word ' * 3_900}", "b": f"{i} b {'text ' * 3_900}"} for i in range(200)]
    body = json.dumps({"pairs": pairs}).encode()
    head = POST.replace(b"/score", b"/pairs").replace(b"%d" % len(BODY), b"%d" % len(body))
    answer = exchange(port, head + b"\r\n" + body + b"POST /sco")
    assert statuses(answer) == [200, 408]
    assert answer.count(b'"match":') == 200


@pytest.mark.parametrize("noise", [b"\r\n", b"\r\n\r\n\r\n", b"G"], ids=["a line", "lines", "a letter"])
def test_an_idle_connection_cannot_be_held_open_with_empty_lines(port: int, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(GET)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        connection.sendall(noise)
        assert statuses(answer + received(connection)) == [200, 408]


def test_a_million_pairs_are_refused(tiny_matcher: Path) -> None:
    headers = {"content-type": "application/json"}
    pairs = b'{"pairs": [' + b", ".join([b'{"a": "x", "b": "y"}'] * 1_000_000) + b"]}"
    with running("serve", tiny_matcher, "--request-seconds", "60", "--max-body", str(len(pairs))) as (address, _):
        answer = httpx.post(f"{address}/pairs", content=pairs, headers=headers, timeout=60)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"] == "body.pairs has 1000000 items; at most 1000 are accepted"
        assert httpx.get(f"{address}/readyz", timeout=60).is_success


@pytest.mark.parametrize(
    "path", [b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"//score", b"/score/", b"/%ff%00", b"/sc%6fre\xff"]
)
def test_no_other_path_leads_anywhere(port: int, path: bytes) -> None:
    assert statuses(exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) in (
        [404],
        [400],
    )


def test_old_and_cautious_clients_are_served(port: int) -> None:
    with_length = b"POST /score HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    assert statuses(exchange(port, with_length + BODY)) == [200]
    waiting = POST + b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(port, waiting, BODY)) == [100, 200]
    head = exchange(port, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(head) == [200] and head.endswith(b"\r\n\r\n")
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert statuses(exchange(port, upgrade)) == [200]


def label_fails(*arguments: str | Path) -> str:
    command = [*FLIPKD, "label", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("flipkd: error: ")
    return line


def test_label_reports_a_file_in_use_and_a_port_in_use_in_one_line(tiny_matcher: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "texts.csv", tmp_path / "labels.csv"
    table.write_text("text\nmy card\nmy PIN\nmy loan\n", encoding="utf-8")
    command = (table, "--matcher", tiny_matcher, "--device", "cpu", "--out")
    with running("label", *command, out) as (_, process):
        assert "labels.csv: another 'flipkd label' is writing it; end that one" in label_fails(*command, out)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        assert f"port {number} of 127.0.0.1 is in use" in label_fails(*command, out, "--port", number)
    with running("label", *command, out):
        pass
