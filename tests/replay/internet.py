"""A replayed internet on loopback: an HTTP proxy which answers for the hosts of all replayed sites.

The server and yt-dlp reach the proxy by the setting PROXY, with `PROXY_DNS=remote`, so they look up no name. The proxy
itself ends each CONNECT to port 443, with a certificate of the authority of the tests (`ca_file`). The response to a
request for a host that belongs to no site is 404.
"""

from __future__ import annotations

import socketserver
import ssl
import threading
import traceback
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trustme

from tests.replay.messages import Request, Response, refusal
from tests.replay.site import Site

SECONDS = 60.0
"""Timeout of a single send or receive in seconds."""


class Internet:
    """The proxy that answers for `sites`. It runs from the beginning of the block to its end. `directory` receives the
    certificate of the authority."""

    def __init__(self, sites: Sequence[Site], directory: Path) -> None:
        self.requests: list[Request] = []
        self.failures: list[str] = []
        """Tracebacks of the exceptions that sites have raised."""
        self.ca_file = directory / "ca.pem"
        self._hosts = {host: site for site in sites for host in site.hosts}
        authority, self.context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.cert_pem.write_to_path(str(self.ca_file))
        authority.issue_cert(*self._hosts).configure_cert(self.context)
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="replayed internet")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self, host: str, path: str = "") -> list[Request]:
        """Return the requests so far to `host` whose path begins with `path`."""
        return [each for each in self.requests if each.host == host and each.path.startswith(path)]

    def answer(self, request: Request) -> Response:
        self.requests.append(request)
        site = self._hosts.get(request.host)
        try:
            found = None if site is None else site.answer(request)
        except Exception:  # noqa: BLE001  # the failure of a site is reported at the end of the tests
            self.failures.append(traceback.format_exc())
            return refusal(500)
        return found or refusal(404, "not in the replayed internet")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """A connection with requests in absolute form, or with a CONNECT and then requests to the host that it names."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    _origin = ""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client has left
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.close()  # `wrap_socket` has detached the socket that `socketserver` closes
        except OSError:
            return

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self._origin = f"{'https' if port == '443' else 'http'}://{host}"
        self.send_response_only(200)
        self.end_headers()
        self.close_connection = False  # some clients send CONNECT by HTTP/1.0
        if port == "443":
            self.request = self.server.internet.context.wrap_socket(self.connection, server_side=True)
            self.setup()

    def do_GET(self) -> None:
        url = self.path if urlsplit(self.path).scheme else f"{self._origin}{self.path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, url, {name.lower(): value for name, value in self.headers.items()}, body)
        self._reply(self.server.internet.answer(request))

    do_POST = do_HEAD = do_GET

    def _reply(self, response: Response) -> None:
        self.send_response_only(response.status)
        for name, value in (("Content-Type", response.content_type), *response.headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: response.sent])
            self.close_connection |= response.sent is not None
