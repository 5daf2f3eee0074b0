"""Tests of the extraction cache, and of extractions that several callers share. Most tests use a fake source, and one
test uses real workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from serverpy.access.grant import Grant
from serverpy.containers import M4A, MP4, WEBM
from serverpy.errors import Busy, Draining, MediaNotFound, RateLimited
from serverpy.extraction.extractor import Cache, Extractor
from serverpy.extraction.footprint import CONTAINER_BYTES
from serverpy.extraction.values import Media
from serverpy.sample.site import SampleSite
from tests.extraction.workers import running

MEDIA = Media(raw_id="r", id="1", title="Film", kind="video", extractor="x", webpage_url="https://site.example/")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """A fake for the pool of workers. Its extractions end once the test sets `go`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def extract(self, url: str, client: str = "") -> Media:
        self.asked.append(url)
        number = len(self.asked)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(url)
            raise
        if self.error:
            raise self.error
        return replace(MEDIA, raw_id=f"r{number}")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_extraction_is_cached_until_its_ttl_or_its_media_urls_expire() -> None:
    clock = Clock()
    cache = Cache(ttl=60, size=10, max_bytes=10**6, clock=clock)
    cache.put("film", MEDIA, 300)
    cache.put("live", replace(MEDIA, kind="live"), 300)
    cache.put("signed", replace(MEDIA, expires=1030.0), 300)
    cache.put("dead", replace(MEDIA, expires=900.0), 300)
    known = {}
    for at in (0, 4, 6, 19, 21, 59, 61):
        clock.now = 1000.0 + at
        known[at] = [name for name in ("film", "live", "signed", "dead") if cache.get(name)]
    assert known == {
        0: ["film", "live", "signed"],
        4: ["film", "live", "signed"],
        6: ["film", "signed"],
        19: ["film", "signed"],
        21: ["film"],
        59: ["film"],
        61: [],
    }
    assert (len(cache), cache.bytes) == (0, 0)


def test_the_number_of_entries_and_the_bytes_of_the_extraction_cache_are_limited() -> None:
    cache = Cache(ttl=60, size=3, max_bytes=10_000, clock=Clock())
    for number in range(5):
        cache.put(str(number), MEDIA, 300)
        cache.get("0")
    assert [name for name in "01234" if cache.get(name)] == ["0", "3", "4"]
    cache.put("big", MEDIA, 9_900)
    assert cache.bytes <= 10_000
    assert cache.get("big") is None or len(cache) == 1
    cache.put("huge", MEDIA, 20_000)
    assert cache.get("huge") is None


def test_the_containers_of_tracks_stay_cached_as_long_as_their_extraction() -> None:
    clock = Clock()
    cache = Cache(ttl=60, size=2, max_bytes=10_000, clock=clock)
    cache.put("film", MEDIA, 300)
    alone = cache.bytes
    cache.keep_container("film", ("r", "1"), MP4)
    cache.keep_container("film", ("r", "1"), WEBM)
    cache.keep_container("film", ("r.3", "1"), M4A)  # r.3 is the id of the page's third item
    assert [cache.container("film", (raw_id, "1")) for raw_id in ("r", "r.3", "r.4")] == [WEBM, M4A, None]
    assert cache.bytes == alone + 2 * CONTAINER_BYTES
    cache.keep_container("film", ("older", "1"), MP4)
    cache.keep_container("elsewhere", ("r", "1"), MP4)
    assert (cache.container("film", ("older", "1")), cache.container("elsewhere", ("r", "1"))) == (None, None)
    cache.put("film", MEDIA, 300)
    assert (cache.container("film", ("r", "1")), cache.bytes) == (None, alone)


def test_the_cached_containers_of_tracks_count_toward_the_byte_limit_of_the_cache() -> None:
    cache = Cache(ttl=60, size=10, max_bytes=10_000, clock=Clock())
    cache.put("film", MEDIA, 300)
    for number in range(100):
        cache.keep_container("film", ("r", str(number)), MP4)
        assert cache.bytes <= 10_000
    assert (len(cache), cache.bytes) == (0, 0)


@pytest.mark.parametrize("cache", [{"ttl": 0}, {"size": 0}])
def test_the_extraction_cache_can_be_turned_off(cache: dict[str, int]) -> None:
    off = Cache(**({"ttl": 60, "size": 10, "max_bytes": 10**6} | cache), clock=Clock())
    off.put("film", MEDIA, 300)
    assert off.get("film") is None


async def test_concurrent_callers_with_the_same_url_share_one_extraction() -> None:
    source = Source()
    extractor = Extractor(source)
    asked = [asyncio.ensure_future(extractor.extract("film")) for _ in range(10)]
    await turns()
    source.go.set()
    assert len({media.raw_id for media in await asyncio.gather(*asked)}) == 1
    assert await extractor.extract("film") is asked[0].result()
    assert source.asked == ["film"]


async def test_callers_that_set_fresh_share_a_new_extraction_that_replaces_the_cached_one() -> None:
    source = Source()
    source.go.set()
    extractor = Extractor(source)
    first = await extractor.extract("film")
    source.go.clear()
    asked = [asyncio.ensure_future(extractor.extract("film", fresh=True)) for _ in range(3)]
    await turns()
    assert await extractor.extract("film") is first
    source.go.set()
    fresh = await asyncio.gather(*asked)
    assert {media.raw_id for media in fresh} == {"r2"}
    assert await extractor.extract("film") is fresh[0]


async def test_fresh_does_not_skip_a_recent_extraction_that_the_caller_accepts() -> None:
    source = Source()
    source.go.set()
    extractor = Extractor(source)
    first = await extractor.extract("film")
    assert await extractor.extract("film", fresh=True, accepts=lambda media: media is first) is first
    second = await extractor.extract("film", fresh=True, accepts=lambda media: media is not first)
    assert second.raw_id == "r2"
    assert await extractor.extract("film", fresh=True, accepts=lambda media: media is not first) is second


async def test_an_extraction_is_cancelled_when_its_last_caller_leaves() -> None:
    source = Source()
    extractor = Extractor(source)
    asked = [asyncio.ensure_future(extractor.extract("film")) for _ in range(3)]
    await turns()
    for each in asked[:2]:
        each.cancel()
    await turns()
    assert source.cancelled == []
    asked[2].cancel()
    await turns()
    assert source.cancelled == ["film"]
    again = asyncio.ensure_future(extractor.extract("film"))
    await turns()
    source.go.set()
    assert (await again).raw_id == "r2"


async def test_a_failed_extraction_raises_for_all_callers_and_is_not_cached() -> None:
    source = Source()
    source.error = MediaNotFound("Nothing here.")
    source.go.set()
    extractor = Extractor(source)
    results = await asyncio.gather(*(extractor.extract("film") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [MediaNotFound] * 3
    source.error = None
    assert (await extractor.extract("film")).raw_id == "r2"


async def test_an_extraction_beyond_the_maximum_queue_length_is_refused_as_busy() -> None:
    source = Source()
    extractor = Extractor(source, max_queue=2)
    asked = [asyncio.ensure_future(extractor.extract(name)) for name in ("a", "b")]
    await turns()
    with pytest.raises(Busy):
        await extractor.extract("c")
    source.go.set()
    await asyncio.gather(*asked)
    await extractor.extract("c")


async def test_closing_the_extractor_raises_draining_for_waiting_callers() -> None:
    source = Source()
    extractor = Extractor(source)
    asked = asyncio.ensure_future(extractor.extract("film"))
    await turns()
    await extractor.aclose()
    with pytest.raises(Draining):
        await asked


async def test_concurrent_extractions_of_a_url_send_one_request_to_the_site(site: SampleSite) -> None:
    async with running() as workers:
        extractor = Extractor(workers)
        url = f"{site.http}/page/slow?seconds=0.3&single"
        before = len(site.requests)
        found = await asyncio.gather(*(extractor.extract(url) for _ in range(20)))
        assert len({media.raw_id for media in found}) == 1
        pages = [each for each in site.requests[before:] if each.path == "/page/slow"]
        assert len(pages) == 1


class Payer(Grant):
    """A grant that counts the extractions that it pays for, and refuses more than `most` extractions. Counting takes
    some iterations of the event loop, as if another machine kept the counters."""

    def __init__(self, most: int = 1000) -> None:
        self.paid = 0
        self.most = most

    async def pay_extraction(self) -> None:
        await turns()
        if self.paid >= self.most:
            raise RateLimited("Rate limit exceeded.")
        self.paid += 1


async def test_fifty_callers_of_one_page_pay_for_only_one_extraction() -> None:
    source, payer = Source(), Payer()
    extractor = Extractor(source)
    source.go.set()
    found = await asyncio.gather(*(extractor.extract("film", grant=payer) for _ in range(50)))
    assert ({media.raw_id for media in found}, source.asked, payer.paid) == ({"r1"}, ["film"], 1)
    await extractor.extract("film", grant=payer)
    assert payer.paid == 1


async def test_a_caller_beyond_its_rate_limit_may_join_a_running_extraction_or_read_the_cache() -> None:
    source, poor = Source(), Payer(most=0)
    extractor = Extractor(source)
    with pytest.raises(RateLimited):
        await extractor.extract("film", grant=poor)
    assert source.asked == []
    paid = asyncio.ensure_future(extractor.extract("film"))
    await turns()
    joined = asyncio.ensure_future(extractor.extract("film", grant=poor))
    await turns()
    source.go.set()
    assert (await paid, await joined) == (await extractor.extract("film", grant=poor),) * 2


async def test_the_refusal_of_one_caller_does_not_fail_the_extraction_for_other_callers() -> None:
    source, poor, rich = Source(), Payer(most=0), Payer()
    extractor = Extractor(source)
    source.go.set()
    asked = [extractor.extract("film", grant=poor), extractor.extract("film", grant=rich)]
    refused, found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(refused, RateLimited)
    assert isinstance(found, Media)
    assert rich.paid == 1


async def test_an_extraction_that_is_refused_because_the_queue_is_full_does_not_count_against_the_rate_limit() -> None:
    source, payer = Source(), Payer()
    extractor = Extractor(source, max_queue=1)
    first = asyncio.ensure_future(extractor.extract("first"))
    await turns()
    with pytest.raises(Busy):
        await extractor.extract("second", grant=payer)
    assert payer.paid == 0
    source.go.set()
    await first
