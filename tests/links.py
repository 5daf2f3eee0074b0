"""Helpers that request signed links from a server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from tests.server import Server
from tests.wire import Answer


def post(server: Server, body: object, *, path: str = "/links", headers: dict[str, str] | None = None) -> Answer:
    """Send a POST request with `body` as JSON, or unchanged if `body` is bytes. Returns the response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json", **(headers or {})}
    fields["Content-Length"] = str(len(data))
    head = "\r\n".join([f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())])
    with server.send(f"{head}\r\n\r\n".encode() + data) as exchange:
        return exchange.rest()


def issue(server: Server, page: str, **parameters: Any) -> str:
    """Issue a link to `page` on the sample site, and return the path of the link."""
    answer = post(server, {"url": f"{server.site.http}{page}", **parameters})
    assert answer.status == 200, answer.body
    return path_in(answer.json())


def path_in(issued: dict[str, str]) -> str:
    return urlsplit(issued["url"]).path
