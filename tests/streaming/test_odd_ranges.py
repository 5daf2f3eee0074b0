"""Tests of the relay with media servers that answer range requests in odd ways. The client gets the range or the whole
file, and the head of the response says which of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from serverpy.body import Head, Source
from serverpy.extraction.extractor import Extractor
from serverpy.memory.budget import Budget
from serverpy.memory.room import NO_ROOM
from serverpy.net.client import Client
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange, resolve_range
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.relay import Relay
from tests.net.reading import (
    FILE,
    OTHER_FILE,
    Answer,
    Ask,
    at,
    bare,
    by_turns,
    exclusive,
    part,
    refusal,
    refuses,
    serving,
    whole,
    without_total,
)
from tests.streaming.segments.relaying import PAGE, Page, drained
from tests.streaming.test_stale_addresses import film

pytestmark = pytest.mark.usefixtures("short_back_off")

SIZE = len(FILE)
PERIODIC = bytes(range(256)) * 1000
ASKED = [None, ByteRange(102_400, None), ByteRange(5, 9), ByteRange(None, 100), ByteRange(0, 0), ByteRange(0, 599)]


@dataclass
class Rig:
    """A relay with a cache of extractions. The page lists one file."""

    client: Client
    relay: Relay
    extractor: Extractor

    async def get(self, asked: ByteRange | None, *, head_only: bool = False) -> tuple[Head, bytes]:
        media = await self.extractor.extract(PAGE)
        plan = self.relay.capability.plan(media.tracks)
        body = await self.relay.open(plan, Source(url=PAGE, media=media, range=asked, head_only=head_only), NO_ROOM)
        if head_only:
            await body.aclose()
        return body.head, b"" if head_only else await drained(body)


@asynccontextmanager
async def rig(answer: Answer, *, ttl: float = 300.0) -> AsyncIterator[tuple[Rig, list[Ask]]]:
    async with serving(answer) as (url, asked), at() as source:
        extractor = Extractor(Page(lambda _visit: film(url)), ttl=ttl)
        fanout = Fanout(Budget(64 << 20, max_streams=50, wait_seconds=5.0))
        relay = Relay(source.client, extractor, fanout, Timeouts(wait=2.0))
        yield Rig(source.client, relay, extractor), asked


async def checked(it: Rig, asked: ByteRange | None, file: bytes = FILE) -> bool:
    """Read `asked`. Returns whether the range is honoured. Raises AssertionError if the bytes are not those that the
    head states."""
    sent, data = await it.get(asked)
    first, end = resolve_range(asked, len(file)) if sent.partial else (0, len(file))
    assert data == file[first:end], asked
    assert (sent.start, sent.length) in ((first, end - first), (0, None)), asked
    return sent.partial


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("ttl", [300.0, 0.0])
async def test_the_requested_bytes_without_a_content_range_are_never_sent_as_the_whole_file(
    framing: str, ttl: float
) -> None:
    """If the extraction is cached (ttl 300), the first bytes and the length of the file are known from an earlier
    request."""
    async with rig(partial(bare, framing=framing), ttl=ttl) as (it, _):
        for asked in (*ASKED, *ASKED):
            assert not await checked(it, asked)


async def test_a_part_that_begins_like_the_file_is_recognised_by_the_length_of_the_file() -> None:
    """The bytes repeat every 256 bytes, so each of these parts begins like the file."""
    async with rig(partial(bare, file=PERIODIC)) as (it, _):
        for asked in (*ASKED, ByteRange(512, None), ByteRange(len(PERIODIC) - 256, None)):
            assert not await checked(it, asked, PERIODIC)


async def test_the_head_of_a_file_states_its_length_although_the_media_server_answers_with_the_requested_part() -> None:
    async with rig(bare) as (it, _):
        sent, _ = await it.get(None, head_only=True)
        assert (sent.length, sent.seekable) == (SIZE, False)


async def test_a_media_server_that_ignores_ranges_is_asked_once_for_each_range() -> None:
    async with rig(lambda _ask: whole()) as (it, asked):
        for each in (ByteRange(5, 9), ByteRange(102_400, None), ByteRange(0, 599)):
            asked.clear()
            assert not await checked(it, each)
        assert len(asked) == 1


async def test_a_file_that_has_changed_since_it_was_first_read_is_sent_as_a_whole() -> None:
    async with rig(by_turns(lambda _: whole(), lambda _: whole(OTHER_FILE[:-1]))) as (it, _):
        await checked(it, None)
        assert not await checked(it, ByteRange(5, None), OTHER_FILE[:-1])


@pytest.mark.parametrize("content_range", [f"bytes */{0}", "bytes */*", None, "bytes */1"])
async def test_a_range_from_a_media_server_that_refuses_every_range_gets_the_whole_file(
    content_range: str | None,
) -> None:
    async with rig(partial(refuses, content_range=content_range)) as (it, _):
        for asked in ASKED:
            assert not await checked(it, asked)
        assert (await it.get(None, head_only=True))[0].length == SIZE


async def test_a_range_whose_response_states_no_total_length_is_honoured() -> None:
    async with rig(without_total) as (it, _):
        assert await checked(it, ByteRange(5, 9))
        assert await checked(it, ByteRange(0, 599))
        assert not await checked(it, ByteRange(5, None))
        assert await checked(it, ByteRange(5, None))  # the length is known now
        assert not await checked(it, None)


async def test_a_range_from_a_media_server_that_leaves_out_its_last_byte_is_complete() -> None:
    async with rig(exclusive) as (it, _):
        for asked in (ByteRange(5, 9), ByteRange(0, 599), ByteRange(1000, 99_999), ByteRange(102_400, None)):
            assert await checked(it, asked)


@pytest.mark.parametrize("status", [400, 403, 404, 416, 501])
async def test_a_range_that_is_refused_once_is_honoured_if_another_range_of_the_file_was(status: int) -> None:
    """The response to the request for the first bytes of the file was a range."""
    answer = by_turns(part, lambda _ask: refusal(status), lambda ask: part(ask) if ask.has_range else whole())
    async with rig(answer) as (it, asked):
        assert await checked(it, ByteRange(102_400, None))
        assert [ask.has_range for ask in asked] == [True, True, False, True]
