"""Media server on loopback that serves the files of a test. It supports ranges and persistent connections, and a test
can make it fail."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as the media server received it."""

    verb: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Shelf:
    """Media server, which runs while its context is entered.

    `files` maps a path to the bytes of the file, or to a function that makes them for each request. `refuse` returns
    the status with which the server refuses a request target, or None if the server does not refuse it. `cuts` maps a
    path to the number of bytes after which the server cuts the next response. `headers` maps a path to additional
    response headers. The server leaves out a header whose value is empty.
    """

    files: dict[str, bytes | Callable[[], bytes]] = field(default_factory=dict)
    refuse: Callable[[str], int | None] = lambda _target: None
    redirects: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    knows_ranges: bool = True
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Shelf:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def targets(self, path: str = "") -> list[str]:
        """Return the requested targets that begin with `path`, in order."""
        return [asked.target for asked in self.asked if asked.target.startswith(path)]

    def data(self, *paths: str) -> bytes:
        """Return the bytes of the files at `paths`, concatenated."""
        files = [self.files[path] for path in paths]
        return b"".join(file if isinstance(file, bytes) else file() for file in files)


def in_turn(*answers: bytes) -> Callable[[], bytes]:
    """Return a file for a `Shelf` that has the next of `answers` at each request. The last one stays."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    block_on_close = True

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore OSError, because a client may disconnect during the response. Any other error is a mistake in the test
        itself."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.shelf.connections += 1

    def do_GET(self) -> None:
        shelf, path = self.server.shelf, urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        shelf.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
        status = shelf.refuse(self.path)
        if status is not None:
            self._answer(status, b"" if status in (204, 205, 304) else b"no", {})
        elif path in shelf.redirects:
            self._answer(302, b"", {"Location": shelf.redirects[path]})
        elif path not in shelf.files:
            self._answer(404, b"no such file", {})
        else:
            self._send_file(path, shelf.data(path))

    do_POST = do_GET

    def _send_file(self, path: str, data: bytes) -> None:
        shelf = self.server.shelf
        headers = shelf.headers.get(path, {})
        asked = re.fullmatch(r"bytes=(?:(\d+)-(\d*)|-(\d+))", self.headers.get("Range", ""))
        if asked is None or not shelf.knows_ranges:
            self._answer(200, data, headers, shelf.cuts.pop(path, None))
            return
        first = max(0, len(data) - int(asked[3])) if asked[3] else int(asked[1])
        last = min(int(asked[2] or len(data) - 1), len(data) - 1)
        if first > last:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        sent = {"Content-Range": f"bytes {first}-{last}/{len(data)}", **headers}
        self._answer(206, data[first : last + 1], sent, shelf.cuts.pop(path, None))

    def _answer(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *args: Any) -> None: ...


class Tokens:
    """Callable for `Shelf.refuse`. The query of each request target is a token, with which only `good_for` requests
    succeed. Later requests with this token are refused."""

    def __init__(self, good_for: int) -> None:
        self._good_for = good_for
        self._used: dict[str, int] = {}

    def __call__(self, target: str) -> int | None:
        token = urlsplit(target).query
        if not token:
            return None
        self._used[token] = self._used.get(token, 0) + 1
        return 403 if self._used[token] > self._good_for else None
