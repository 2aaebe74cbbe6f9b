"""``flipkd serve``: an HTTP service with a page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json
from flipkd_sdk.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(
    epilog=options.examples(
        "flipkd serve faq-matcher",
        "FLIPKD_SERVE_API_KEY=... flipkd serve faq-matcher --host 0.0.0.0 --candidates faq.txt",
    )
)
@options.matcher_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for a free one.")
@click.option(
    "--candidates", type=click.Path(exists=True), help="For /rank: a saved set, or a text file with one a line."
)
@click.option(
    "--api-key-file", type=click.Path(exists=True, dir_okay=False), help="File with a key that requests must send."
)
@click.option("--api-key", hidden=True, help="The key; set FLIPKD_SERVE_API_KEY, as others see a command's options.")
@click.option("--max-body", type=click.IntRange(min=1), default=1 << 20, show_default=True, help="Bytes of a body.")
@click.option("--max-pairs", type=click.IntRange(min=1), default=1000, show_default=True, help="Pairs of a request.")
@click.option(
    "--max-characters", type=click.IntRange(min=1), default=20_000, show_default=True, help="Characters of a text."
)
@click.option(
    "--max-queue", type=click.IntRange(min=1), default=256, show_default=True, help="Requests that wait or run."
)
@click.option("--max-connections", type=click.IntRange(min=2), default=900, show_default=True, help="Open connections.")
@click.option(
    "--request-seconds",
    type=click.FloatRange(0.1, 3600),
    default=10,
    show_default=True,
    help="Time in which the headers and the body of a request must arrive.",
)
@click.option(
    "--stop-seconds", type=click.FloatRange(1, 3600), default=30, show_default=True, help="Time for the last answers."
)
@click.option(
    "--max-delay",
    type=click.FloatRange(0, 1),
    default=0.002,
    show_default=True,
    help="Seconds that a request waits for others to share a run of the model.",
)
@click.option(
    "--cache-size", type=click.IntRange(min=0), default=0, show_default=True, help="Texts whose vectors are kept."
)
@options.blank_option
@options.json_option
@options.execution_options
def serve(
    matcher: str,
    host: str,
    port: int,
    candidates: str | None,
    api_key_file: str | None,
    api_key: str | None,
    max_body: int,
    max_pairs: int,
    max_characters: int,
    max_queue: int,
    max_connections: int,
    request_seconds: float,
    stop_seconds: float,
    max_delay: float,
    cache_size: int,
    on_blank: Literal["zero", "score"],
    as_json: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Serve MATCHER, a directory made by 'flipkd export', over HTTP.

    POST /score, /pairs, /rank, /encode, /explain and /v1/embeddings take JSON; GET /healthz, /readyz, /metrics and
    /openapi.json describe the service, and / is a page to try pairs on. Concurrent requests share runs of the model.

    SIGHUP, or POST /reload with the API key, loads the directory again: requests that have begun finish with the old
    matcher, and a matcher that cannot be used changes nothing. SIGTERM and Ctrl-C answer what has begun, then stop.
    """
    import uvicorn  # noqa: F401 - a missing extra is reported before anything is loaded

    from flipkd_sdk.runtimes.http.run import address_of, listening_socket, run

    key = _key(api_key, api_key_file)
    if key is None and host not in _LOOPBACK:
        click.echo(f"flipkd: warning: anyone who reaches {host} can use the service; set an API key", err=True)
    with listening_socket(host, port) as listening:
        from flipkd_sdk.runtimes.http.app import Service, ServiceOptions

        service = Service(
            ServiceOptions(
                # Not resolved: a link may name another directory at the next reload.
                directory=Path(matcher).absolute(),
                candidates=None if candidates is None else Path(candidates),
                load={
                    "device": device,
                    "precision": precision,
                    "threads": threads,
                    "cache_size": cache_size,
                    "on_blank": on_blank,
                    "on_truncate": "ignore",
                },
                api_key=key,
                max_body=max_body,
                max_pairs=max_pairs,
                max_characters=max_characters,
                max_queue=max_queue,
                max_delay=max_delay,
            )
        )
        if as_json:
            print_json({"matcher": matcher, "address": address_of(listening)})
        else:
            click.echo(f"flipkd: serving {matcher} on {address_of(listening)}", err=True)
        run(
            service.application(),
            listening,
            request_seconds=request_seconds,
            max_connections=max_connections,
            stop_seconds=stop_seconds,
        )


def _key(value: str | None, file: str | None) -> str | None:
    """Return the API key.

    Raises:
        ConfigError: it is empty, or named twice.
    """
    if value is not None and file is not None:
        raise ConfigError("the API key is set twice; use --api-key-file or FLIPKD_SERVE_API_KEY")
    if file is not None:
        value = Path(file).read_text(encoding="utf-8", errors="replace").strip()
        if not value:
            raise ConfigError(f"{file}: no API key in it; write one line of at least 16 characters")
    if value is not None and len(value) < 16:
        raise ConfigError("the API key is shorter than 16 characters; make one with: openssl rand -hex 32")
    return value
