"""Tests of the memory that extraction results take. The server estimates this memory, and charges it to the memory
budget as long as a cache or a stream refers to the result."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from serverpy.errors import Busy
from serverpy.extraction import messages
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.footprint import footprint
from serverpy.extraction.long_replies import TURN_BYTES, decode_in_turns
from serverpy.extraction.messages import Extracted
from serverpy.extraction.values import AesKey, Cookie, Entry, Fragment, Media, Subtitle, Track
from serverpy.memory.budget import Budget
from tests.aio import eventually

EMPTY = Media(raw_id="r", id="1", title="Film", kind="video", extractor="x", webpage_url="https://site.example/")
MIB = 1024 * 1024


def track(number: int, fragments: tuple[Fragment, ...] = ()) -> Track:
    return Track(
        id=f"format-{number}",
        url=f"https://media.example/{number}.mp4",
        protocol="https",
        ext="mp4",
        headers={"User-Agent": "x" * 100, "Accept": f"{number}"},
        fragments=fragments,
        aes=AesKey(key=f"{number:032}"),
    )


def fragments(count: int) -> tuple[Fragment, ...]:
    return tuple(Fragment(url=f"https://media.example/{number}.m4s", duration=2.5) for number in range(count))


PAGES: dict[str, Callable[[], Media]] = {
    "fragments": lambda: replace(EMPTY, tracks=(track(1, fragments(5000)),)),
    "many small fragments": lambda: replace(EMPTY, tracks=tuple(track(each, fragments(300)) for each in range(20))),
    "tracks": lambda: replace(EMPTY, tracks=tuple(track(each) for each in range(1000))),
    "subtitles": lambda: replace(
        EMPTY, subtitles=tuple(Subtitle(language=f"l{each}", ext="vtt", url="https://x/") for each in range(5000))
    ),
    "cookies": lambda: replace(
        EMPTY, cookies=tuple(Cookie(name=f"c{each}", value="v", domain="x.example") for each in range(5000))
    ),
    "entries": lambda: replace(EMPTY, entries=tuple(Entry(title=f"item {each} ☃") for each in range(5000))),
    "media in entries": lambda: replace(
        EMPTY,
        entries=tuple(
            Entry(duration=1.5, media=replace(EMPTY, title=f"item {each}", tracks=(track(each),)))
            for each in range(400)
        ),
    ),
}


def encoded(media: Media) -> bytes:
    return messages.encode(Extracted(id=1, media=media), limit=64 * MIB)[4:]


@pytest.mark.parametrize("name", PAGES)
async def test_the_estimated_memory_of_an_extraction_is_between_its_real_memory_and_two_and_a_half_times_as_much(
    name: str,
) -> None:
    body = encoded(PAGES[name]())
    gc.collect()
    tracemalloc.start()
    try:
        reply = messages.decode_reply(body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(reply, Extracted)
    assert held <= await footprint(reply.media) <= 2.5 * held


@pytest.mark.parametrize("name", PAGES)
async def test_a_long_worker_reply_is_decoded_correctly_although_decoding_takes_several_event_loop_iterations(
    name: str,
) -> None:
    media = PAGES[name]()
    body = encoded(media)
    assert len(body) > TURN_BYTES
    turns, done = 0, asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    assert await decode_in_turns(body) == Extracted(id=1, media=media)
    done.set()
    await counting
    assert turns >= len(body) // (2 * TURN_BYTES)


@pytest.mark.parametrize(
    "broken", [b'"tracks":[7]', b'"tracks":[{"id":7}]', b'"entries":[{"media":[]}]', b'"kind":"no"']
)
async def test_decoding_an_invalid_long_worker_reply_raises_decode_error(broken: bytes) -> None:
    media = replace(EMPTY, subtitles=PAGES["subtitles"]().subtitles)
    name = broken.partition(b":")[0]
    valid = {b'"tracks"': b'"tracks":[]', b'"entries"': b'"entries":[]', b'"kind"': b'"kind":"video"'}[name]
    body = encoded(media)
    assert body.count(valid) == 1
    with pytest.raises(msgspec.DecodeError):
        await decode_in_turns(body.replace(valid, broken))


class Pages:
    """A fake for the pool of workers. Each extraction returns a new result of `make`."""

    def __init__(self, make: Callable[[], Media]) -> None:
        self._make = make

    async def extract(self, url: str, client: str = "") -> Media:
        return self._make()


async def test_a_cached_extraction_is_evicted_if_a_stream_needs_its_memory() -> None:
    budget = Budget(4 * MIB, 10, 0)
    extractor = Extractor(Pages(PAGES["fragments"]), ledger=budget)
    size = await footprint(PAGES["fragments"]())
    assert size > MIB / 2
    for page in "ab":
        await extractor.extract(page)
    assert budget.used_bytes == 0
    reservation = await budget.reserve(4 * MIB - size)  # the rest is enough for only one of the two cached extractions
    assert [page for page in "ab" if extractor._cache.get(page)] == ["b"]  # `extract` would fill the cache again
    reservation.release()


async def test_an_extraction_is_charged_to_the_budget_as_long_as_a_stream_refers_to_any_of_its_items() -> None:
    budget = Budget(4 * MIB, 10, 0)
    extractor = Extractor(Pages(PAGES["media in entries"]), ttl=0, ledger=budget)
    media: Media | None = await extractor.extract("page")
    assert media is not None
    size = await footprint(media)
    assert budget.used_bytes == size
    item = media.entries[7].media
    media = None
    gc.collect()
    await asyncio.sleep(0)
    assert budget.used_bytes == size  # `item` still refers to an item of the result
    assert item is not None
    item = None
    gc.collect()
    await eventually(lambda: budget.used_bytes == 0)


async def test_a_cached_extraction_to_which_a_caller_refers_is_charged_to_the_budget_and_cannot_be_evicted() -> None:
    budget = Budget(2 * MIB, 10, 0)
    extractor = Extractor(Pages(PAGES["fragments"]), ledger=budget)
    media = await extractor.extract("page")
    size = await footprint(media)
    with pytest.raises(Busy):
        await budget.reserve(2 * MIB - size + 1)
    assert budget.used_bytes == size
    (await budget.reserve(2 * MIB - size)).release()
    del media
    gc.collect()
    await eventually(lambda: budget.used_bytes == 0)


async def test_an_extraction_is_refused_as_busy_if_the_budget_has_no_free_memory_for_its_result() -> None:
    budget = Budget(2 * MIB, 10, 0)
    extractor = Extractor(Pages(PAGES["fragments"]), ledger=budget)
    reservation = await budget.reserve(2 * MIB - 1000)
    with pytest.raises(Busy):
        await extractor.extract("page")
    assert budget.used_bytes == 2 * MIB - 1000
    reservation.release()
    assert (await extractor.extract("page")).tracks
