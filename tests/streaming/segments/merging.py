"""Helpers that run the merger of segmented video and audio without a server around it. The merger joins two playlists
of fragmented MP4 from a `Shelf`, the media server of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from serverpy.body import Body, Source
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Media, Track
from serverpy.media.weave.cache import Layouts
from serverpy.memory.budget import Budget
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange
from serverpy.sample.apart import files_of
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.relay import Relay
from serverpy.streaming.segments.merge import Merger
from tests.aio import run
from tests.streaming.segments.shelf import Shelf

PAGE = "https://page.example/watch"
SECONDS = 2.0


@dataclass
class Site:
    """A page with the video playlist `/v.m3u8` and the audio playlist `/a.m3u8` of `shelf`. `visits` is the number of
    extractions so far."""

    shelf: Shelf
    visits: int = 0

    async def extract(self, url: str, client: str = "") -> Media:
        self.visits += 1
        video = Track(
            id="v", url=f"{self.shelf.url}/v.m3u8", protocol="m3u8_native", ext="mp4", vcodec="avc1", height=9
        )
        audio = Track(id="a", url=f"{self.shelf.url}/a.m3u8", protocol="m3u8_native", ext="mp4", acodec="mp4a")
        return Media(
            raw_id="1", id="1", title="A film", kind="video", extractor="made up", webpage_url=PAGE,
            tracks=(audio, video),
        )  # fmt: skip


def segments(media: Path, name: str, form: str = "apart") -> list[bytes]:
    """Return the initialization section and the segments of a track of the sample site."""
    return [file.read_bytes() for file in files_of(media / "hls", form, name)]


def put(
    shelf: Shelf, name: str, parts: list[bytes], durations: list[float] | None = None, *, framed: bool = True
) -> None:
    """Serve the playlist `name`, and the initialization section and segments in `parts` at `/<name>-0`, `/<name>-1` and
    so on. If `framed` is false, the responses with `parts` have no Content-Length, so that a truncated response looks
    complete."""
    durations = durations or [SECONDS if len(part) > 1000 else 0.02 for part in parts[1:]]
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f'#EXT-X-MAP:URI="{name}-0"']
    for number, seconds in enumerate(durations, 1):
        lines += [f"#EXTINF:{seconds},", f"{name}-{number}"]
    shelf.files[f"/{name}.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    for number, part in enumerate(parts):
        shelf.files[f"/{name}-{number}"] = part
        if not framed:
            shelf.headers[f"/{name}-{number}"] = {"Content-Length": "", "Connection": "close"}


@dataclass
class Mill:
    """A merger, its memory budget, and a page whose two tracks the merger joins."""

    site: Site
    client: Client
    budget: Budget
    merger: Merger

    @asynccontextmanager
    async def opened(self, range_: ByteRange | None = None) -> AsyncIterator[Body]:
        media = await self.site.extract(PAGE)
        audio, video = media.tracks
        plan = self.merger.capability.plan((video, audio))
        reservation = await self.budget.reserve(plan.nbytes)
        try:
            body = await self.merger.open(plan, Source(url=PAGE, media=media, range=range_), reservation)
            try:
                yield body
            finally:
                await body.aclose()
        finally:
            reservation.release()


@asynccontextmanager
async def mill(shelf: Shelf) -> AsyncIterator[Mill]:
    """Run a merger. Checks at the end of the block that no connection is in use, and that no bytes are reserved."""
    client = Client(Guard(allow=parse_networks(["127.0.0.1"])), timeouts=Timeouts(connect=30.0, stall=60.0))
    budget = Budget(64 << 20, max_streams=50, wait_seconds=5.0)
    site = Site(shelf)
    extractor = Extractor(site)
    relay = Relay(client, extractor, Fanout(budget), Timeouts(wait=2.0))
    try:
        yield Mill(site, client, budget, Merger(relay, extractor, Layouts(budget)))
        assert client.open_connections == 0
        assert (budget.used_bytes, budget.streams) == (0, 0)
    finally:
        client.close()
        for _ in range(3):  # an aborted transport closes in a later iteration; until then, the media server waits
            await asyncio.sleep(0)


def merge(shelf: Shelf, range_: ByteRange | None = None) -> bytes:
    """Merge the two playlists on `shelf`. Returns the bytes of the merged file."""
    given = bytearray()
    merge_into(given, shelf, range_)
    return bytes(given)


def merge_into(given: bytearray, shelf: Shelf, range_: ByteRange | None = None) -> None:
    """Add the bytes of the merged file to `given`, until the file ends or the merge raises an error."""

    async def whole() -> None:
        async with mill(shelf) as parts, parts.opened(range_) as body:
            while chunk := await body.read():
                given.extend(chunk)

    run(whole)
