"""A media server of the bench whose responses are as large as the limits of the server under test allow. It runs in the
event loop of the bench, and listens on several loopback addresses, which count as different hosts for cookies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from serverpy.sample.content import HeldContent, type_of
from serverpy.sample.hostile import RepeatedContent
from serverpy.sample.ranges import asked_span

ADDRESSES = ("127.0.0.1", *(f"127.0.0.{number}" for number in range(20, 39)))
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `fields` are header fields that the site sends in addition to its own. If `status` is 200, the site
    honours Range."""

    content: HeldContent | RepeatedContent
    status: int = 200
    fields: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, name: str, body: bytes, **more: object) -> Answer:
        """Return a response with `body`, whose media type follows from the extension of `name`."""
        return cls(HeldContent(body, type_of(name), 0.0), **more)  # type: ignore[arg-type]  # passed on unchanged


@dataclass(frozen=True)
class LargeSite:
    """A running site. `answers` maps each path to its response; answers may be added while the site runs."""

    port: int
    answers: dict[str, Answer] = field(repr=False)

    def url(self, path: str, address: str = ADDRESSES[0]) -> str:
        return f"http://{address}:{self.port}{path}"


@contextlib.asynccontextmanager
async def large_site() -> AsyncIterator[LargeSite]:
    """Run a site without answers. It responds to an unknown path with status 404."""
    answers: dict[str, Answer] = {}
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                await _respond(await reader.readuntil(b"\r\n\r\n"), answers, writer)
        connections.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, ADDRESSES[0], 0)
    port = server.sockets[0].getsockname()[1]
    others = await asyncio.start_server(serve, ADDRESSES[1:], port)
    try:
        yield LargeSite(port, answers)
    finally:
        for each in (server, others):
            each.close()
        for writer in connections:
            writer.transport.abort()


async def _respond(head: bytes, answers: Mapping[str, Answer], writer: asyncio.StreamWriter) -> None:
    line, *lines = head.decode("latin-1").split("\r\n")
    verb, target, _ = line.split(" ", 2)
    fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    answer = answers.get(target.partition("?")[0]) or Answer.of("none.txt", b"no such file\n", status=404)
    content = answer.content
    span = asked_span(fields.get("range"), content.size) if answer.status == 200 else None
    start, stop = (span.start, span.stop) if span else (0, content.size)
    lines = [
        f"HTTP/1.1 {206 if span else answer.status} X",
        f"Content-Type: {content.type}",
        f"Content-Length: {stop - start}",
        *([f"Content-Range: bytes {start}-{stop - 1}/{content.size}"] if span else []),
        *(['ETag: "1"', "Accept-Ranges: bytes"] if answer.status == 200 else []),
        *(f"{name}: {value}" for name, value in answer.fields),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    for piece in content.pieces(start, stop) if verb != "HEAD" else ():
        writer.write(piece)
        await writer.drain()
