"""A model hub on this machine, with as much of the protocol as huggingface_hub needs to upload and download files."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "c" * 40


@dataclass
class LocalHub:
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By repository and name."""
    requests: list[str] = field(default_factory=list)
    status: int = 200
    """Status of every answer if it is not 200."""
    cut: set[str] = field(default_factory=set)
    """Names of files whose first download breaks off."""
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: LocalHub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        owner, name, _, _, file, *_ = [*self.path.strip("/").split("/"), "", "", "", ""]
        content = self.hub.files.get(f"{owner}/{name}", {}).get(file)
        if self.hub.status != 200:
            self.answer(b"{}", self.hub.status)
        elif content is None:
            self.answer(b"{}", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        elif self.command == "GET" and file in self.hub.cut:
            self.hub.cut.discard(file)
            self.close_connection = True
            self.answer(content, shown=len(content) // 2)
        else:
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.answer(content[start:], 206 if start else 200, ETag=etag, X_Repo_Commit=COMMIT)

    def do_POST(self) -> None:
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.status != 200:
            self.answer(b"{}", self.hub.status)
        elif self.path.endswith("/repos/create"):
            content = json.loads(body)
            name = "/".join(filter(None, (content.get("organization"), content["name"])))
            self.hub.files.setdefault(name, {})
            self.answer_json({"url": f"{self.hub.url}/{name}"})
        elif "/preupload/" in self.path:
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            self.answer_json(
                {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
            )
        elif "/commit/" in self.path:
            name = "/".join(self.path.split("/")[3:5])
            for entry in map(json.loads, filter(None, body.splitlines())):
                if entry["key"] == "file":
                    self.hub.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self.hub.url}/{name}/commit/{COMMIT}"
            self.answer_json({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.answer_json({"errors": [], "warnings": []})

    def answer_json(self, content: object) -> None:
        self.answer(json.dumps(content).encode(), Content_Type="application/json")

    def answer(self, content: bytes, status: int = 200, shown: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:shown])

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
