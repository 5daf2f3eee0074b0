"""Requests to replayed sites, and their responses, as values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

HTML = "text/html; charset=utf-8"
PLAYLIST = "application/vnd.apple.mpegurl"
MANIFEST = "application/dash+xml"


@dataclass(frozen=True, slots=True)
class Request:
    """A request. The names of `headers` are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def cookie(self, name: str) -> str | None:
        morsel = SimpleCookie(self.header("cookie")).get(name)
        return None if morsel is None else morsel.value

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """A response. If `sent` is not None, the site closes the connection after that number of bytes of the body."""

    body: bytes = b""
    status: int = 200
    content_type: str = HTML
    headers: tuple[tuple[str, str], ...] = ()
    sent: int | None = None


def page(text: str, *, status: int = 200, cookies: tuple[str, ...] = ()) -> Response:
    return Response(text.encode(), status, headers=tuple(("Set-Cookie", cookie) for cookie in cookies))


def as_json(value: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(value).encode(), status, "application/json; charset=utf-8")


def refusal(status: int, text: str = "") -> Response:
    return Response(text.encode(), status, "text/plain")


def redirect(url: str) -> Response:
    return Response(status=302, headers=(("Location", url),))


def in_range(request: Request, body: bytes, content_type: str, etag: str) -> Response:
    """Return `body`, or the range of it that `request` asks for (RFC 9110 §14)."""
    fields = (("Accept-Ranges", "bytes"), ("ETag", f'"{etag}"'))
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range"))
    if match is None or request.header("if-range") not in ("", f'"{etag}"'):
        return Response(body, 200, content_type, fields)
    first, last = match.groups()
    begin = int(first) if first else max(len(body) - int(last), 0)
    end = min(int(last) + 1, len(body)) if first and last else len(body)
    if begin >= end:
        return Response(b"", 416, content_type, (*fields, ("Content-Range", f"bytes */{len(body)}")))
    content_range = ("Content-Range", f"bytes {begin}-{end - 1}/{len(body)}")
    return Response(body[begin:end], 206, content_type, (*fields, content_range))
