"""Tests of opening the next segment ahead of time: this uses a second connection, happens only if the budget has enough
free bytes, and does not reorder bytes."""

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
"""Number of segments that the relay reads before it opens a segment ahead of time for the first time."""


@dataclass
class Budget:
    """Lender of memory that has `free` bytes left to lend. `least` is the smallest value that `free` has had."""

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


def test_the_next_segment_is_opened_ahead_of_time_for_a_reader_that_would_wait(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = itertools.accumulate(itertools.cycle((2.0, 1.0)))  # each wait lasts 2 s, each time between two reads 1 s
    monkeypatch.setattr(segmented, "Waits", lambda: Waits(lambda: next(times)))
    room = Budget()
    assert stream(shelf, hls(shelf, PLAYLIST), room=room)[1] == FILE
    assert (shelf.connections, room.least, room.free) == (2, 0, AHEAD_BYTES)
    assert shelf.targets() == ["/high.m3u8", *(f"/{number}.ts" for number in range(COUNT))]


def test_no_segment_is_opened_ahead_of_time_if_the_budget_has_too_few_free_bytes(shelf: Shelf) -> None:
    assert stream(shelf, hls(shelf, PLAYLIST), room=Budget(AHEAD_BYTES - 1))[1] == FILE
    assert shelf.connections == 1


async def test_the_error_of_a_segment_opened_ahead_of_time_is_raised_when_the_reader_reaches_it(
    shelf: Shelf,
) -> None:
    missing = BEFORE + 2
    del shelf.files[f"/{missing}.ts"]
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: hls(shelf, PLAYLIST)), room=Budget())
        given = bytearray()
        with pytest.raises(UpstreamFailed):
            await drain_into(given, body)
        with pytest.raises(UpstreamFailed):  # a second read raises again, and does not report a clean EOF
            await body.read()
        assert given == b"".join(PIECES[:missing])


async def test_closing_the_body_also_closes_the_segment_opened_ahead_of_time(shelf: Shelf) -> None:
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: hls(shelf, PLAYLIST)), room=Budget())
        given = 0
        while given < (BEFORE + 1) * SIZE + 1000:
            given += len(await body.read())
        assert shelf.connections == 2
        await body.aclose()
        assert client.open_connections == 0


async def test_no_connection_stays_open_at_whatever_moment_a_reader_leaves(shelf: Shelf) -> None:
    """The test cancels the reader after 0 to 48 ms."""

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
def test_expired_segment_urls_are_renewed_from_the_playlist(shelf: Shelf, good_for: int) -> None:
    readings = itertools.count(1)

    def playlist() -> bytes:
        return f"#EXTM3U\n{PLAYLIST}\n#EXT-X-ENDLIST".replace(".ts", f".ts?{next(readings)}").encode()

    shelf.files["/high.m3u8"] = playlist
    shelf.refuse = Tokens(good_for)
    page = Page(lambda _: hls(shelf))
    assert stream(shelf, page, room=Budget())[1] == FILE
    assert page.visits == 1


@pytest.mark.parametrize("cut", range(3, COUNT))
def test_the_urls_of_fragments_whose_responses_are_truncated_or_refused_are_renewed_by_a_new_extraction(
    shelf: Shelf, cut: int
) -> None:
    """The URLs of two fragments are renewed at the same time: that of the fragment whose response is truncated, and
    that of the fragment opened ahead of time."""

    def track(visit: int) -> Track:
        fragments = tuple(Fragment(url=f"{shelf.url}/{number}.ts?{visit}") for number in range(COUNT))
        url = f"{shelf.url}/film.mpd"
        return Track(id="v", url=url, protocol="http_dash_segments", ext="mp4", fragments=fragments)

    shelf.refuse = Tokens(good_for=cut + 1)
    shelf.cuts[f"/{cut}.ts"] = SIZE // 2
    page = Page(track)
    assert stream(shelf, page, room=Budget())[1] == FILE


def test_the_class_waits_tells_whether_the_reader_has_waited_for_the_media_server_longer_than_vice_versa() -> None:
    now = 0.0
    waits = Waits(lambda: now)
    for reader, server, waited in ((1.0, 2.0, True), (2.0, 1.0, False), (0.0, 0.5, True)):
        now += reader
        waits.asked()
        now += server
        waits.given()
        assert waits.reader_waited_more() is waited
