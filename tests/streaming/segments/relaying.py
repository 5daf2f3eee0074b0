"""Helpers that run the relay without a server around it. The relay streams a track of a made-up page from a `Shelf`,
the media server of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from serverpy.body import Body, Head, Source
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Cookie, Media, Track
from serverpy.memory.budget import Budget
from serverpy.memory.room import NO_ROOM, Lender
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.relay import Relay
from tests.aio import run
from tests.streaming.segments.shelf import Shelf

PAGE = "https://page.example/watch"


@dataclass
class Page:
    """Made-up page. Each extraction returns the track that `track` makes from the number of the extraction. `visits` is
    the number of extractions so far."""

    track: Callable[[int], Track]
    cookies: tuple[Cookie, ...] = ()
    duration: float | None = None
    visits: int = 0

    async def extract(self, url: str, client: str = "") -> Media:
        self.visits += 1
        return Media(
            raw_id=str(self.visits),
            id="1",
            title="A film",
            kind="video",
            extractor="made up",
            webpage_url=PAGE,
            duration=self.duration,
            tracks=(self.track(self.visits),),
            cookies=self.cookies,
        )


def hls(
    shelf: Shelf, playlist: str | None = None, *, path: str = "/high.m3u8", query: str = "", **fields: object
) -> Track:
    """Make an HLS track, whose playlist is served at `path`. `playlist` contains all lines of the playlist except the
    first and the last tag."""
    if playlist is not None:
        shelf.files[path] = f"#EXTM3U\n{playlist}\n#EXT-X-ENDLIST\n".encode()
    track = Track(
        id="high", url=shelf.url + path + query, protocol="m3u8_native", ext="mp4", vcodec="avc1", acodec="mp4a"
    )
    return replace(track, **fields)  # type: ignore[arg-type]  # mypy cannot check an unpacked dict


def relay_of(client: Client, page: Page, budget: Budget | None = None) -> Relay:
    budget = budget or Budget(64 << 20, max_streams=50, wait_seconds=5.0)
    return Relay(client, Extractor(page), Fanout(budget), Timeouts(wait=2.0))


@asynccontextmanager
async def client_for(shelf: Shelf, *, stall_timeout: float = 60.0) -> AsyncIterator[Client]:
    """Run an HTTP client that may connect only to the media server. Checks at the end of the block that all connections
    of the client are closed."""
    allowed = parse_networks([shelf.url.removeprefix("http://")])
    client = Client(Guard(allow=allowed), timeouts=Timeouts(connect=30.0, stall=stall_timeout))
    try:
        yield client
        assert client.open_connections == 0
    finally:
        client.close()
        # an aborted transport closes in a later iteration of the event loop; until then, the media server waits
        for _ in range(3):
            await asyncio.sleep(0)


async def opened(
    client: Client,
    page: Page,
    range_: ByteRange | None = None,
    *,
    if_range: str | None = None,
    start: float | None = None,
    room: Lender = NO_ROOM,
) -> Body:
    media = await page.extract(PAGE)
    track = media.tracks[0]
    relay = relay_of(client, page)
    assert relay.carries(track)
    source = Source(url=PAGE, media=media, range=range_, if_range=if_range, start=start)
    return await relay.open(relay.capability.plan((track,)), source, room)


async def drained(body: Body) -> bytes:
    given = bytearray()
    await drain_into(given, body)
    return bytes(given)


async def drain_into(given: bytearray, body: Body) -> None:
    """Read `body` up to its end or until it raises an error, add its bytes to `given`, and close the body."""
    try:
        while chunk := await body.read():
            given += chunk
    finally:
        await body.aclose()


def stream(
    shelf: Shelf,
    track: Track | Page,
    range_: ByteRange | None = None,
    *,
    start: float | None = None,
    room: Lender = NO_ROOM,
) -> tuple[Head, bytes]:
    """Stream a whole track in a new event loop. Returns the head and the bytes of the stream."""
    page = track if isinstance(track, Page) else Page(lambda _visit: track)

    async def whole() -> tuple[Head, bytes]:
        async with client_for(shelf) as client:
            body = await opened(client, page, range_, start=start, room=room)
            return body.head, await drained(body)

    return run(whole)
