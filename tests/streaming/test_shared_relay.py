"""Tests of the relay with live streams that clients share. Clients open a stream, join a stream, or are cancelled while
they do so."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from serverpy.body import Body, Source
from serverpy.errors import UpstreamFailed
from serverpy.memory.budget import Budget
from serverpy.memory.room import NO_ROOM
from serverpy.streaming.methods.relay import Relay
from serverpy.tasks import cancel, spawn
from tests.aio import PATIENCE_SECONDS, eventually
from tests.streaming.segments.relaying import PAGE, Page, client_for, drained, hls, relay_of
from tests.streaming.segments.shelf import Shelf, Tokens
from tests.streaming.segments.show import Show, piece, pieces


@dataclass
class Viewing:
    """A relay, the page that its clients watch, and the budget that lends bytes to all streams."""

    relay: Relay
    page: Page
    budget: Budget

    async def open(self, *, start: float | None = None) -> Body:
        media = await self.page.extract(PAGE)
        plan = self.relay.capability.plan(media.tracks[:1])
        return await self.relay.open(plan, Source(url=PAGE, media=media, start=start), NO_ROOM)

    async def whole(self) -> bytes:
        return await drained(await self.open())


@asynccontextmanager
async def viewing(shelf: Shelf, page: Page) -> AsyncIterator[Viewing]:
    """Yield a `Viewing` of `page`. Checks at the end of the block that all connections are closed and all bytes are
    returned to the budget."""
    budget = Budget(64 << 20, max_streams=50, wait_seconds=5.0)
    with shelf:
        async with client_for(shelf) as client:
            yield Viewing(relay_of(client, page, budget), page, budget)
            await eventually(lambda: not (budget.used_bytes or client.open_connections))


def page_of(show: Show) -> Page:
    return Page(lambda _visit: show.track())


async def test_the_next_client_opens_the_upstream_if_the_first_client_is_cancelled_while_opening_it() -> None:
    shelf, held = Shelf(), threading.Event()
    show = Show(shelf)

    def playlist() -> bytes:
        held.wait(PATIENCE_SECONDS)
        return show.playlist()

    shelf.files["/live.m3u8"] = playlist
    async with viewing(shelf, page_of(show)) as view:
        first, second = spawn(view.whole(), name="first"), spawn(view.whole(), name="second")
        await eventually(lambda: shelf.targets("/live"))
        await cancel(first)
        held.set()
        # where the stream begins depends on how many clients have loaded the playlist
        assert await second in [pieces(*range(first, 12)) for first in range(2)]
        assert len(shelf.targets("/5.ts")) == 1


async def test_if_the_upstream_fails_to_open_every_client_gets_the_error() -> None:
    shelf = Shelf()
    show = Show(shelf)
    shelf.refuse = lambda target: 410 if target.startswith("/live") else None
    async with viewing(shelf, page_of(show)) as view:
        tasks = [spawn(view.whole(), name="viewer") for _ in range(3)]
        for task in tasks:
            with pytest.raises(UpstreamFailed):
                await task


async def test_clients_that_disconnect_at_any_moment_do_not_affect_the_others() -> None:
    shelf = Shelf()
    show = Show(shelf, total=30)

    async def leave_early(view: Viewing, seconds: float) -> None:
        """Open a stream, read it, and disconnect after `seconds`."""
        task = spawn(view.whole(), name="leaves")
        await asyncio.sleep(seconds)
        await cancel(task)

    async with viewing(shelf, page_of(show)) as view:
        moments = random.Random(1)
        stays = spawn(view.whole(), name="stays")
        await eventually(lambda: len(shelf.targets("/2.ts")) == 1)
        while not stays.done():
            await asyncio.gather(*(leave_early(view, moments.uniform(0, 0.1)) for _ in range(5)))
        assert await stays in [pieces(*range(first, 30)) for first in range(4)]
        assert max(len(shelf.targets(f"/{number}.ts")) for number in range(4, 30)) == 1


async def test_an_expired_url_of_a_live_stream_is_renewed_once_for_all_clients() -> None:
    shelf = Shelf()
    show = Show(shelf)
    shelf.refuse = Tokens(good_for=4)
    page = Page(lambda visit: show.track(f"?{visit}"))
    async with viewing(shelf, page) as view:
        bodies = [await view.open() for _ in range(5)]
        visits = page.visits
        data = await asyncio.gather(*map(drained, bodies))
        assert set(data) == {pieces(*range(12))}
        assert 1 <= page.visits - visits <= 3


async def test_clients_that_set_start_do_not_share_an_upstream() -> None:
    shelf = Shelf()
    show = Show(shelf, pace=0, ends=False, window=12)
    async with viewing(shelf, page_of(show)) as view:
        bodies = [await view.open(), await view.open(start=0.0), await view.open(start=0.0)]
        assert len(shelf.targets("/0.ts")) == 2
        for body in bodies:
            await body.aclose()


async def test_clients_open_the_same_media_concurrently_once_the_media_is_known_not_to_be_live() -> None:
    """The media server responds at once to the first request for the first segment. It responds to the next four
    requests only once all four have arrived."""
    shelf, together = Shelf(), threading.Barrier(4)
    film = "#EXTINF:1,\n0.ts\n#EXTINF:1,\n1.ts"
    first = threading.Event()

    def segment() -> bytes:
        if first.is_set():
            together.wait(PATIENCE_SECONDS)
        first.set()
        return piece(0)

    shelf.files |= {"/0.ts": segment, "/1.ts": piece(1)}
    async with viewing(shelf, Page(lambda _visit: hls(shelf, film, path="/film.m3u8"))) as view:
        data = await asyncio.gather(*(view.whole() for _ in range(5)))
        assert set(data) == {pieces(0, 1)}
