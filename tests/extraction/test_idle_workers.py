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
from tests.extraction.workers import OPTIONS, gone, process_of, reader, running

SOON = WorkersLimits(grace=0.3, idle=0.2)


async def let_go(workers: Workers) -> None:
    await eventually(lambda: workers.state().status == "stopped")


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
    assert not caplog.records


async def test_it_is_kept_for_ever_if_nothing_is_said(site: SampleSite) -> None:
    async with running() as workers:
        assert workers._worker is not None
        assert workers._idle_left(workers._worker) is None


async def test_the_next_need_starts_one_for_all_who_wait(site: SampleSite) -> None:
    async with running(SOON) as workers:
        first = await process_of(workers)
        await let_go(workers)
        asked = [asyncio.ensure_future(workers.extract(f"{site.http}/page/prog?{number}")) for number in range(3)]
        await eventually(lambda: workers.state().status == "starting")
        assert all(found.tracks for found in await asyncio.gather(*asked))
        assert (await process_of(workers)).pid != first.pid
        assert len(workers.state().pids) == 1
        assert workers.restarts == 0


async def test_it_is_not_let_go_under_an_extraction_or_one_that_waits(site: SampleSite) -> None:
    async with running(SOON, extract_workers=1) as workers:
        process = await process_of(workers)
        asked = [workers.extract(f"{site.http}/page/slow?seconds=0.7&{number}") for number in range(2)]
        assert all(found.tracks for found in await asyncio.gather(*asked))
        assert (await process_of(workers)).pid == process.pid
        await let_go(workers)


async def test_it_is_not_let_go_under_a_download(site: SampleSite) -> None:
    """Whose pipe nobody reads meanwhile: nothing moves, and yet it is needed."""
    async with running(SOON) as workers:
        process = await process_of(workers)
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, None, film.tracks[0].id, writing)
        await stays(lambda: workers.state().status == "running", seconds=0.6)
        assert (await process_of(workers)).pid == process.pid
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
    """Again and again, a page is asked for when it is just due to be let go."""
    limits = WorkersLimits(grace=0.3, idle=0.05)
    async with running(limits) as workers:
        pids: set[int] = set()
        for number in range(8):
            at = workers._last_need + 0.05 + (number - 3) * 0.002
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            assert (await workers.extract(f"{site.http}/page/prog?{number}")).tracks
            pids.update(workers.state().pids)
        assert pids
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
