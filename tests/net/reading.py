"""Helpers for tests of resuming reads, which need no page. The media server is either the sample site or a server whose
responses the test determines."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from serverpy.net.client import Client, Response
from serverpy.net.guard import Guard, parse_networks
from serverpy.net.resume import ResumingRead, open_resuming
from serverpy.net.session import Session
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange
from tests.aio import eventually

FILE = random.Random(11).randbytes(300_000)
OTHER_FILE = random.Random(12).randbytes(300_000)
STARTED_BYTES = 100_000
"""Number of bytes that the responses of `cut_part` and `cut_whole` send before the connection closes."""

Headers = Mapping[str, object]
NONE: Headers = {}


@dataclass
class At:
    """Upstream at the first of `urls`. Each renewal of the URL switches to the next of `urls`. `asked` contains the
    headers of each request."""

    client: Client
    urls: list[str]
    asked: list[dict[str, str]] = field(default_factory=list)
    renewals: int = 0

    async def open(self, headers: dict[str, str]) -> Response:
        self.asked.append(headers)
        return await Session(self.client, {}).open(self.urls[0], headers)

    async def renew(self) -> bool:
        self.renewals += 1
        if len(self.urls) == 1:
            return False
        del self.urls[0]
        return True

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range", "").removeprefix("bytes=") or None for headers in self.asked]


@asynccontextmanager
async def at(*urls: str) -> AsyncIterator[At]:
    """Yield an upstream at `urls`. Its client stops waiting for a silent media server after 1 s if a URL has the fault
    "stall", and otherwise after 30 s."""
    stall = 1.0 if any("stall" in url for url in urls) else 30.0
    client = Client(Guard(allow=parse_networks(["127.0.0.0/8"])), timeouts=Timeouts(connect=30.0, stall=stall))
    try:
        yield At(client, list(urls))
        assert client.open_connections == 0
    finally:
        client.close()


@asynccontextmanager
async def reading(
    source: At, asked: ByteRange | None = None, if_range: str | None = None, *, window_bytes: int | None = None
) -> AsyncIterator[ResumingRead]:
    read = await open_resuming(source, asked, if_range, window_bytes=window_bytes, wait_seconds=2.0)
    try:
        yield read
    finally:
        read.close()


# A media server whose responses the test determines


@dataclass(frozen=True)
class Ask:
    """A received request. `number` is the number of requests received before this one. `first` and `last` are the first
    and the last byte of its range. If `first` is None, its range is a suffix range of `last` bytes. `if_range` is its
    If-Range header."""

    number: int
    first: int | None
    last: int | None
    has_range: bool
    if_range: str | None
    url: str

    def bounds(self, size: int) -> tuple[int, int]:
        """Return the offset of the first byte of the requested range, and the offset after its last byte, for a file of
        `size` bytes."""
        if self.first is None:
            return (max(0, size - self.last) if self.last is not None else 0), size
        return self.first, size if self.last is None else min(self.last + 1, size)


@dataclass(frozen=True)
class Reply:
    """The bytes of a response. `ends` states how the server closes the connection after these bytes: "FIN", "RST", or
    "" if the connection stays open."""

    data: bytes
    ends: str = ""


Answer = Callable[[Ask], Reply]


def head(status: int, headers: Headers) -> bytes:
    """Return a response head without the header fields whose value is None."""
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode()


def refusal(status: int, text: bytes = b"no", more: Headers = NONE) -> Reply:
    return Reply(head(status, {"Content-Length": len(text), **more}) + text)


def whole(file: bytes = FILE, more: Headers = NONE) -> Reply:
    return Reply(head(200, {"Content-Length": len(file), **more}) + file)


def part(ask: Ask, file: bytes = FILE, more: Headers = NONE, *, most: int | None = None, status: int = 206) -> Reply:
    """Return a 206 with the requested range, or with the first `most` bytes of the range if `most` is given. Returns a
    416 if the range begins at or beyond the end of the file."""
    first, end = ask.bounds(len(file))
    if first >= end:
        return refusal(416, more={"Content-Range": f"bytes */{len(file)}"})
    end = end if most is None else min(end, first + most)
    told = {"Content-Length": end - first, "Content-Range": f"bytes {first}-{end - 1}/{len(file)}", **more}
    return Reply(head(status, told) + file[first:end])


def cut_part(ask: Ask, more: Headers = NONE) -> Reply:
    """Return a response with the requested range, truncated after STARTED_BYTES."""
    return cut(part(ask, more=more))


def cut_whole(more: Headers = NONE) -> Reply:
    """Return a response with the whole file, truncated after STARTED_BYTES."""
    return cut(whole(more=more))


def cut(reply: Reply) -> Reply:
    return Reply(reply.data[: reply.data.index(b"\r\n\r\n") + 4 + STARTED_BYTES], "FIN")


def cut_chunked(_ask: Ask) -> Reply:
    """Return the whole file in a chunk, truncated after STARTED_BYTES, so that its length is unknown."""
    return Reply(head(200, {"Transfer-Encoding": "chunked"}) + b"%x\r\n%s" % (len(FILE), FILE[:STARTED_BYTES]), "FIN")


def chunked(data: bytes, more: Headers = NONE) -> Reply:
    return Reply(head(200, {"Transfer-Encoding": "chunked", **more}) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))


def bare(ask: Ask, file: bytes = FILE, *, framing: str = "length") -> Reply:
    """Return the requested range with status 200 and without Content-Range. Returns the whole file if no range was
    requested. The end of the body is the end of its "length", of its chunks ("chunked"), or of the connection
    ("close")."""
    first, end = ask.bounds(len(file)) if ask.has_range else (0, len(file))
    body = file[first:end]
    if framing == "length":
        return whole(body)
    return chunked(body) if framing == "chunked" else Reply(head(200, {"Connection": "close"}) + body, "FIN")


def without_total(ask: Ask, file: bytes = FILE) -> Reply:
    """Return the requested range without the length of the file, or the whole file if no range was requested."""
    first, end = ask.bounds(len(file))
    return part(ask, file, more={"Content-Range": f"bytes {first}-{end - 1}/*"}) if ask.has_range else whole(file)


def exclusive(ask: Ask, *, claims: int = 0, opens: int = 0) -> Reply:
    """Return the requested range without its last byte. The end in the Content-Range is too large by `claims`. If the
    range has no end, the last `opens` bytes of the file are missing."""
    if not ask.has_range:
        return whole()
    first, end = ask.bounds(len(FILE))
    end = min(ask.last, len(FILE)) if ask.last is not None else end - opens
    if first >= end:
        return refusal(416, more={"Content-Range": f"bytes */{len(FILE)}"})
    body = FILE[first:end]
    told_range = f"bytes {first}-{end - 1 + claims}/{len(FILE)}"
    return Reply(head(206, {"Content-Length": len(body), "Content-Range": told_range}) + body)


def refuses(ask: Ask, content_range: str | None) -> Reply:
    """Refuse any range with status 416, and return the whole file if no range was requested."""
    return refusal(416, more={"Content-Range": content_range}) if ask.has_range else whole()


def by_turns(*answers: Answer) -> Answer:
    """Return a handler that answers each request with the next of `answers`, and all further requests with the last of
    them."""
    return lambda ask: answers[min(ask.number, len(answers) - 1)](ask)


class _Connection(asyncio.Protocol):
    def __init__(self, answer: Answer, asked: list[Ask], open_ones: set[asyncio.Transport]) -> None:
        self._answer = answer
        self._asked = asked
        self._open_ones = open_ones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_ones.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        text = data.decode("latin-1")
        asked = re.search(r"\nrange: bytes=(\d*)-(\d*)\r", text, re.IGNORECASE)
        first, last = (int(digits) if digits else None for digits in (asked.groups() if asked else ("", "")))
        if_range = re.search(r"\nif-range: (.*)\r", text, re.IGNORECASE)
        ask = Ask(
            len(self._asked), first, last, asked is not None, if_range[1] if if_range else None, text.split(" ", 2)[1]
        )
        self._asked.append(ask)
        reply = self._answer(ask)
        self._transport.write(reply.data)
        if reply.ends == "RST":
            self._transport.abort()
        elif reply.ends:
            self._transport.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[Ask]]]:
    """Run a media server that responds with `answer`. Yields its URL and the list of requests that it received."""
    asked: list[Ask] = []
    open_ones: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answer, asked, open_ones), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/media", asked
    finally:
        server.close()
        for transport in list(open_ones):  # a client in another thread may close its connections later
            transport.abort()
        await eventually(lambda: not open_ones)


@asynccontextmanager
async def upstream(answer: Answer, *renewed: str) -> AsyncIterator[tuple[At, list[Ask]]]:
    """Run a media server. Yields an upstream at its URL, whose renewals use the URLs in `renewed`, and the list of
    received requests."""
    async with serving(answer) as (url, asked), at(url, *renewed) as source:
        yield source, asked
