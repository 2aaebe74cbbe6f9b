"""Servers on a socket: uvicorn with limits, until a signal."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from flipkd_sdk.errors import ConfigError
from flipkd_sdk.runtimes.http.protocol import timed_protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_SWITCH_SECONDS = 0.0005
"""Longest time for which the event loop keeps the interpreter from the model's thread: a tenth of Python's default."""
_IDLE_SECONDS = 65
"""Time until an idle connection is closed: longer than the 60 seconds after which proxies close theirs."""


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use; name another with --port") from error
        raise ConfigError(f"cannot listen on port {port} of {host} ({error.strerror or error})") from error


def address_of(listening: socket.socket) -> str:
    """Return the address of a socket as a URL without a path."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Callable[..., Any],
    listening: socket.socket,
    *,
    request_seconds: float,
    max_connections: int,
    stop_seconds: float,
) -> None:
    """Serve until SIGINT or SIGTERM, then answer the requests that have begun.

    Args:
        app: an ASGI application.
        listening: from `listening_socket`.
        request_seconds: time in which the headers and the body of a request must arrive.
        max_connections: connections above it are answered 503.
        stop_seconds: longest time for the last answers.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        app,
        http=timed_protocol(request_seconds),
        ws="none",
        limit_concurrency=max_connections,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(stop_seconds),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listening])
