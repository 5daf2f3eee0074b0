"""A worker that nobody needs is let go, and nobody who needs one notices: not even in the moment of its end."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from serverpy.errors import ServerPYError
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.messages import RawGone
from serverpy.extraction.workers import Workers, WorkersLimits
from serverpy.sample.site import SampleSite
from tests.aio import eventually, stays
from tests.extraction.workers import OPTIONS, process_of, reader, running
from tests.processes import gone

SOON = WorkersLimits(idle=1.0)


async def let_go(workers: Workers) -> None:
    await eventually(lambda: workers.state().status == "stopped")


async def answered_by(workers: Workers, url: str) -> int:
    """The process that takes requests in the moment in which `url` is extracted."""
    assert (await workers.extract(url)).tracks
    return workers.state().pids[0]


async def test_a_worker_that_nobody_needs_ends_by_itself_and_counts_as_no_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(SOON) as workers:
            process = await process_of(workers)
            await let_go(workers)
            await eventually(lambda: gone(process))
            state = workers.state()
            assert (state.pids, state.restarts) == ((), 0)
            assert state.ready is not None
    assert [record for record in caplog.records if "does not end by itself" not in record.message] == []


async def test_it_is_kept_if_nothing_is_said() -> None:
    async with running() as workers:
        await stays(lambda: workers.state().status == "running", seconds=0.5)


async def test_the_next_need_starts_one_for_all_who_wait(site: SampleSite) -> None:
    async with running(SOON) as workers:
        first = await process_of(workers)
        await let_go(workers)
        pids = set(await asyncio.gather(*(answered_by(workers, f"{site.http}/page/prog?{n}") for n in range(3))))
        assert len(pids) == 1
        assert first.pid not in pids
        assert workers.restarts == 0


async def test_it_is_not_let_go_under_an_extraction_or_one_that_waits(site: SampleSite) -> None:
    async with running(SOON, extract_workers=1) as workers:
        process = await process_of(workers)
        asked = [answered_by(workers, f"{site.http}/page/slow?seconds=1.5&{number}") for number in range(2)]
        assert await asyncio.gather(*asked) == [process.pid] * 2
        await let_go(workers)


async def test_it_is_not_let_go_under_a_download(site: SampleSite) -> None:
    """Whose pipe nobody reads meanwhile: nothing moves, and yet it is needed."""
    async with running(SOON) as workers:
        process = await process_of(workers)
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, None, film.tracks[0].id, writing)
        await stays(lambda: workers.state().status == "running", seconds=1.5)
        assert workers.state().pids == (process.pid,)
        assert await asyncio.to_thread(reader(reading)) == site.path("prog.mp4").read_bytes()
        await download.wait()
        await let_go(workers)


async def test_a_selector_is_answered_by_a_new_one(site: SampleSite) -> None:
    async with running(SOON) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        await let_go(workers)
        assert await workers.select(film, "worst")
        assert workers.restarts == 0


async def test_what_it_had_extracted_is_gone_as_after_a_crash(site: SampleSite) -> None:
    async with running(SOON) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        await let_go(workers)
        reading, writing = os.pipe()
        with pytest.raises(RawGone):
            await workers.download(film.raw_id, None, film.tracks[0].id, writing)
        os.close(reading)


async def test_what_is_cached_is_given_without_it(site: SampleSite) -> None:
    async with running(SOON) as workers:
        extractor = Extractor(workers)
        film = await extractor.extract(f"{site.http}/page/prog")
        await let_go(workers)
        assert await extractor.extract(f"{site.http}/page/prog") is film
        assert workers.state().status == "stopped"
        await extractor.aclose()


async def test_who_comes_in_the_moment_of_its_end_gets_a_worker(site: SampleSite) -> None:
    """Again and again, a page is asked for when it is just due to be let go: here a sleep is the test."""
    async with running(WorkersLimits(idle=0.05)) as workers:
        for number in range(8):
            assert await answered_by(workers, f"{site.http}/page/prog?{number}")
            await asyncio.sleep(0.05 + (number - 3) * 0.002)
        assert workers.restarts == 0


async def test_who_comes_while_it_ends_does_not_wait_for_that(site: SampleSite) -> None:
    async with running(SOON) as workers:
        process = await process_of(workers)
        process.suspend()  # its end takes until it is killed
        await let_go(workers)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        await eventually(lambda: gone(process))


async def test_closing_while_it_is_let_go_leaves_no_process() -> None:
    for turns in (0, 1, 5):
        async with running(SOON) as workers:
            process = await process_of(workers)
            await let_go(workers)
            for _ in range(turns):
                await asyncio.sleep(0)
            await workers.aclose()
            assert gone(process)
            with pytest.raises(ServerPYError):
                await workers.start()


async def test_one_that_dies_while_it_is_kept_is_replaced_and_let_go_in_turn() -> None:
    async with running(WorkersLimits(idle=1.0)) as workers:
        (await process_of(workers)).kill()
        await eventually(lambda: workers.restarts == 1)
        await eventually(lambda: workers.state().status == "running")
        await let_go(workers)
        assert workers.restarts == 1


async def test_without_a_start_the_first_need_starts_one_and_it_is_let_go(site: SampleSite) -> None:
    workers = Workers(OPTIONS, SOON)
    try:
        assert workers.state().status == "stopped"
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        await let_go(workers)
    finally:
        await workers.aclose()
