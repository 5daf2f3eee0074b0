"""Helpers that run the weaver without a server around it. The weaver joins two tracks of a made-up page, whose files
are on a `Shelf`, the media server of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from serverpy.body import Body, Source
from serverpy.errors import ExtractionFailed
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Media, Track
from serverpy.media.weave.cache import Layouts
from serverpy.media.weave.weaver import Weaver
from serverpy.memory.budget import Budget, Reservation
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.relay import Relay
from serverpy.streaming.segments.merge import Merger
from tests.streaming.segments.shelf import Shelf

PAGE = "https://page.example/watch"
BUDGET_BYTES = 64 << 20


class _NoPages:
    async def extract(self, url: str, client: str = "") -> Media:
        raise ExtractionFailed("there is no such page")


@dataclass
class Loom:
    """A weaver, its memory budget, and its sources: the files `/video` and `/audio` on the media server. `query` is the
    query of their URLs."""

    shelf: Shelf
    client: Client
    budget: Budget
    weaver: Weaver
    query: str = ""

    @property
    def source(self) -> Source:
        tracks = (
            Track(id="v", url=f"{self.shelf.url}/video{self.query}", protocol="http", ext="mp4", vcodec="avc1"),
            Track(id="a", url=f"{self.shelf.url}/audio{self.query}", protocol="http", ext="m4a", acodec="mp4a"),
        )
        media = Media(
            raw_id="1", id="1", title="A film", kind="video", extractor="made up", webpage_url=PAGE, tracks=tracks
        )
        return Source(url=PAGE, media=media)

    async def open(
        self, range_: ByteRange | None = None, *, if_range: str | None = None, head_only: bool = False
    ) -> Woven:
        reservation = await self.budget.reserve(self.weaver.stream_bytes)
        source = replace(self.source, range=range_, if_range=if_range, head_only=head_only)
        assert source.media is not None
        assert all(map(self.weaver.capability.carries, source.media.tracks))
        plan = self.weaver.capability.plan(source.media.tracks)
        try:
            return Woven(await self.weaver.open(plan, source, reservation), reservation)
        except BaseException:
            reservation.release()
            raise

    async def read(self, range_: ByteRange | None = None) -> bytes:
        """Open a range of the merged MP4, read it to its end, and close it."""
        woven = await self.open(range_)
        try:
            return await woven.rest()
        finally:
            await woven.aclose()


@dataclass
class Woven:
    """An open body of a merged MP4, and its memory reservation."""

    body: Body
    reservation: Reservation

    async def rest(self) -> bytes:
        data = bytearray()
        while chunk := await self.body.read():
            data += chunk
        return bytes(data)

    async def aclose(self) -> None:
        await self.body.aclose()
        self.reservation.release()


@asynccontextmanager
async def loom(shelf: Shelf, *, budget_bytes: int = BUDGET_BYTES, merges: bool = False) -> AsyncIterator[Loom]:
    """Run a weaver, which, if `merges` is true, passes pairs of files without an index on to a merger. Raises
    AssertionError at the end of the block if a connection is still open, or if bytes are still reserved that the budget
    cannot reclaim."""
    client = Client(Guard(allow=parse_networks(["127.0.0.1"])), timeouts=Timeouts(connect=30.0, stall=60.0))
    budget = Budget(budget_bytes, max_streams=50, wait_seconds=5.0)
    layouts = Layouts(budget)
    extractor = Extractor(_NoPages())
    relay = Relay(client, extractor, Fanout(budget), Timeouts(wait=2.0))
    merger = Merger(relay, extractor, Layouts(budget))
    try:
        yield Loom(shelf, client, budget, Weaver(relay, layouts, merger.open_files if merges else None))
        assert client.open_connections == 0
        assert (budget.used_bytes, budget.streams) == (0, 0)
    finally:
        client.close()
        for _ in range(3):  # an aborted transport closes in a later iteration; until then, the media server waits
            await asyncio.sleep(0)
