"""A client that takes little of the two cores that it shares with the server: one thread, plain sockets, no library.

``load_client.py HOST PORT KEY CALLERS RATE`` reads requests as JSON lines, ``{"path", "body", "scores"}``, and prints a
JSON object. RATE 0 sends each caller's next request as soon as it has an answer; otherwise requests come at random
times, that many a second, and their time counts from then, whether a caller is free or not.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from typing import Any

_TOLERANCE = 1e-6


class Caller:
    """A connection that sends one request after another."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.begun = 0.0
        self.scores: list[float] = []

    def send(self, request: bytes, scores: list[float], begun: float) -> None:
        """Send a request."""
        self.received, self.scores, self.begun = b"", scores, begun
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is there, and return True once the answer is complete and right."""
        part = self.socket.recv(1 << 16)
        if not part:
            raise SystemExit("the server closed a connection")
        self.received += part
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {self.received[:500]!r}")
        answer = json.loads(body)
        found = [one["score"] for one in answer.get("results", [answer])]
        for score, wanted in zip(found, self.scores, strict=True):
            if abs(score - wanted) > _TOLERANCE:
                raise SystemExit(f"a score moved from {wanted} to {score}")
        return True


def main(host: str, port: str, key: str, callers: str, rate: str) -> None:
    """Send all requests and print their times."""
    requests = [_request(json.loads(line), key) for line in sys.stdin]
    free: list[Caller] = []
    by_number: dict[int, Caller] = {}
    poll = select.epoll()

    def connect() -> None:
        # When it is needed: the server closes a connection on which no request comes.
        caller = Caller((host, int(port)))
        by_number[caller.socket.fileno()] = caller
        poll.register(caller.socket.fileno(), select.EPOLLIN)
        free.append(caller)

    cpu, start = time.process_time(), time.perf_counter()
    due = _due(len(requests), float(rate), start)
    taken: list[float] = []
    sent = 0
    while len(taken) < len(requests):
        now = time.perf_counter()
        while (free or len(by_number) < int(callers)) and sent < len(requests) and due[sent] <= now:
            if not free:
                connect()
            # Without a rate, a request begins when it is sent.
            free.pop().send(*requests[sent], due[sent] or time.perf_counter())
            sent += 1
        # -1 waits for an answer: no request is left, or no caller is free.
        can_send = sent < len(requests) and (free or len(by_number) < int(callers))
        wait = max(0.0, due[sent] - time.perf_counter()) if can_send else -1
        for number, _ in poll.poll(wait):
            caller = by_number[number]
            if caller.receive():
                taken.append(time.perf_counter() - caller.begun)
                free.append(caller)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "taken": taken}))


def _request(request: dict[str, Any], key: str) -> tuple[bytes, list[float]]:
    body = json.dumps(request["body"]).encode()
    head = (
        f"POST {request['path']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json"
    )
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, request["scores"]


def _due(count: int, rate: float, start: float) -> list[float]:
    """Return the time at which each request is due; zeros without a rate."""
    if not rate:
        return [0.0] * count
    chosen, times = random.Random(17), []
    for _ in range(count):
        start += chosen.expovariate(rate)
        times.append(start)
    return times


if __name__ == "__main__":
    main(*sys.argv[1:6])
