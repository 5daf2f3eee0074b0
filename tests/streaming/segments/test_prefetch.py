"""Opening the next segment ahead: over a second connection, if there is room for it, and without reordering bytes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import Fragment, Track
from serverpy.net.client import Client
from serverpy.streaming.segments import segmented
from serverpy.streaming.segments.prefetch import AFTER_BYTES, AHEAD_BYTES, Waits
from serverpy.tasks import cancel, spawn
from tests.streaming.segments.relaying import Page, client_for, drain_into, drained, hls, opened, stream
from tests.streaming.segments.shelf import Shelf, Tokens

SIZE = 1_500_000
COUNT = 9
PIECES = [b"\x47" + random.Random(number).randbytes(SIZE - 1) for number in range(COUNT)]
FILE = b"".join(PIECES)
PLAYLIST = "\n".join(f"#EXTINF:4,\n{number}.ts" for number in range(COUNT))
BEFORE = AFTER_BYTES // SIZE + 1
"""Number of segments that are read before the first one is opened ahead."""


@dataclass
class Budget:
    """Lender with `free` bytes left. `least` is the smallest value that `free` has had."""

    free: int = AHEAD_BYTES
    least: int = AHEAD_BYTES

    def try_grow(self, nbytes: int) -> bool:
        grows = nbytes <= self.free
        self.free -= nbytes if grows else 0
        self.least = min(self.least, self.free)
        return grows

    def shrink(self, nbytes: int) -> None:
        self.free += nbytes


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf({f"/{number}.ts": piece for number, piece in enumerate(PIECES)}) as shelf:
        yield shelf


def test_the_next_segment_is_opened_ahead_for_a_reader_that_would_wait(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = itertools.accumulate(itertools.cycle((2.0, 1.0)))  # each wait lasts 2 s, each time between two reads 1 s
    monkeypatch.setattr(segmented, "Waits", lambda: Waits(lambda: next(times)))
    room = Budget()
    assert stream(shelf, hls(shelf, PLAYLIST), room=room)[1] == FILE
    assert (shelf.connections, room.least, room.free) == (2, 0, AHEAD_BYTES)
    assert shelf.targets() == ["/high.m3u8", *(f"/{number}.ts" for number in range(COUNT))]


def test_without_room_no_segment_is_opened_ahead(shelf: Shelf) -> None:
    assert stream(shelf, hls(shelf, PLAYLIST), room=Budget(AHEAD_BYTES - 1))[1] == FILE
    assert shelf.connections == 1


async def test_the_failure_of_a_segment_opened_ahead_is_raised_when_the_reader_reaches_the_segment(
    shelf: Shelf,
) -> None:
    missing = BEFORE + 2
    del shelf.files[f"/{missing}.ts"]
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: hls(shelf, PLAYLIST)), room=Budget())
        given = bytearray()
        with pytest.raises(UpstreamFailed):
            await drain_into(given, body)
        with pytest.raises(UpstreamFailed):  # a second read raises again instead of returning a clean EOF
            await body.read()
        assert given == b"".join(PIECES[:missing])


async def test_closing_also_closes_the_segment_opened_ahead(shelf: Shelf) -> None:
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: hls(shelf, PLAYLIST)), room=Budget())
        given = 0
        while given < (BEFORE + 1) * SIZE + 1000:
            given += len(await body.read())
        assert shelf.connections == 2
        await body.aclose()
        assert client.open_connections == 0


async def test_a_reader_may_leave_at_any_moment(shelf: Shelf) -> None:
    """The reader is cancelled after 0 to 48 ms, and must leave no connection open."""

    async def whole(client: Client) -> bytes:
        return await drained(await opened(client, Page(lambda _: hls(shelf, PLAYLIST)), room=Budget()))

    async with client_for(shelf) as client:
        for turns in range(0, 100, 4):
            task = spawn(whole(client), name="reader")
            await asyncio.sleep(0.0005 * turns)
            await cancel(task)
            assert client.open_connections == 0
            assert task.cancelled() or task.result() == FILE


@pytest.mark.parametrize("good_for", [1, 2, 3, 4, 5])
def test_expired_addresses_are_renewed_from_the_playlist(shelf: Shelf, good_for: int) -> None:
    readings = itertools.count(1)

    def playlist() -> bytes:
        return f"#EXTM3U\n{PLAYLIST}\n#EXT-X-ENDLIST".replace(".ts", f".ts?{next(readings)}").encode()

    shelf.files["/high.m3u8"] = playlist
    shelf.refuse = Tokens(good_for)
    page = Page(lambda _: hls(shelf))
    assert stream(shelf, page, room=Budget())[1] == FILE
    assert page.visits == 1


@pytest.mark.parametrize("cut", range(3, COUNT))
def test_expired_and_cut_fragments_are_renewed_from_the_page(shelf: Shelf, cut: int) -> None:
    """The segment that is cut and the segment opened ahead request fresh addresses at the same time."""

    def track(visit: int) -> Track:
        fragments = tuple(Fragment(url=f"{shelf.url}/{number}.ts?{visit}") for number in range(COUNT))
        url = f"{shelf.url}/film.mpd"
        return Track(id="v", url=url, protocol="http_dash_segments", ext="mp4", fragments=fragments)

    shelf.refuse = Tokens(good_for=cut + 1)
    shelf.cuts[f"/{cut}.ts"] = SIZE // 2
    page = Page(track)
    assert stream(shelf, page, room=Budget())[1] == FILE


def test_waits_tell_whether_the_reader_or_the_server_waited_longer() -> None:
    now = 0.0
    waits = Waits(lambda: now)
    for reader, server, waited in ((1.0, 2.0, True), (2.0, 1.0, False), (0.0, 0.5, True)):
        now += reader
        waits.asked()
        now += server
        waits.given()
        assert waits.reader_waited_more() is waited
