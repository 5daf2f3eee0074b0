"""Tests that idle workers are stopped without making any request fail, not even a request that arrives while a worker
ends."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from serverpy.errors import ServerPYError
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.messages import RawGone
from serverpy.extraction.pool import WorkersLimits
from serverpy.extraction.workers import Workers
from serverpy.sample.site import SampleSite
from tests.aio import eventually, stays
from tests.extraction.workers import OPTIONS, download_process_of, process_of, reader, running
from tests.processes import gone

SOON = WorkersLimits(idle=1.0)


async def until_stopped(workers: Workers) -> None:
    await eventually(lambda: workers.state().status == "stopped")


async def answered_by(workers: Workers, url: str) -> int:
    """Extract `url`, and return the worker process that takes requests after this extraction."""
    assert (await workers.extract(url)).tracks
    return workers.state().pids[0]


async def test_stopping_an_idle_worker_is_not_counted_as_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(SOON) as workers:
            process = await process_of(workers)
            await until_stopped(workers)
            await eventually(lambda: gone(process))
            state = workers.state()
            assert (state.pids, state.restarts) == ((), 0)
            assert state.ready is not None
    assert [record for record in caplog.records if "does not end by itself" not in record.message] == []


async def test_a_worker_without_an_idle_limit_keeps_running() -> None:
    async with running() as workers:
        await stays(lambda: workers.state().status == "running", seconds=0.5)


async def test_concurrent_requests_after_the_idle_stop_of_a_worker_share_one_new_worker(site: SampleSite) -> None:
    async with running(SOON) as workers:
        first = await process_of(workers)
        await until_stopped(workers)
        pids = set(await asyncio.gather(*(answered_by(workers, f"{site.http}/page/prog?{n}") for n in range(3))))
        assert len(pids) == 1
        assert first.pid not in pids
        assert workers.state().restarts == 0


async def test_a_worker_is_not_stopped_as_idle_while_an_extraction_runs_or_waits(site: SampleSite) -> None:
    async with running(SOON, max_extractions=1) as workers:
        process = await process_of(workers)
        asked = [answered_by(workers, f"{site.http}/page/slow?seconds=1.5&{number}") for number in range(2)]
        assert await asyncio.gather(*asked) == [process.pid] * 2
        await until_stopped(workers)


async def test_an_extraction_process_is_stopped_as_idle_during_a_download_but_the_download_process_is_not(
    site: SampleSite,
) -> None:
    """A download keeps the download process running even if nobody reads the pipe, so that the process cannot write any
    bytes. A download does not keep the extraction process running."""
    async with running(SOON) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, film.tracks[0].id, writing)
        process = download_process_of(workers)
        await until_stopped(workers)
        await stays(lambda: workers.state().download_pids == (process.pid,), seconds=1.5)
        assert await asyncio.to_thread(reader(reading)) == site.path("prog.mp4").read_bytes()
        await download.wait()
        await eventually(lambda: not workers.state().download_pids)
        assert workers.state().restarts == 0


async def test_selecting_formats_starts_a_new_worker_after_the_idle_stop(site: SampleSite) -> None:
    async with running(SOON) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        await until_stopped(workers)
        assert await workers.select(film, "worst")
        assert workers.state().restarts == 0


async def test_a_download_from_an_extraction_before_the_idle_stop_raises_raw_gone(site: SampleSite) -> None:
    async with running(SOON) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        await until_stopped(workers)
        reading, writing = os.pipe()
        with pytest.raises(RawGone):
            await workers.download(film.raw_id, film.tracks[0].id, writing)
        os.close(reading)


async def test_a_cached_extraction_starts_no_worker(site: SampleSite) -> None:
    async with running(SOON) as workers:
        extractor = Extractor(workers)
        film = await extractor.extract(f"{site.http}/page/prog")
        await until_stopped(workers)
        assert await extractor.extract(f"{site.http}/page/prog") is film
        assert workers.state().status == "stopped"
        await extractor.aclose()


async def test_a_request_that_arrives_at_the_moment_of_the_idle_stop_is_served_by_a_worker(site: SampleSite) -> None:
    """Each request has to arrive when the idle worker is about to stop, so the test sleeps for fixed times."""
    async with running(WorkersLimits(idle=0.05)) as workers:
        for number in range(8):
            assert await answered_by(workers, f"{site.http}/page/prog?{number}")
            await asyncio.sleep(0.05 + (number - 3) * 0.002)
        assert workers.state().restarts == 0


async def test_a_new_request_does_not_wait_until_an_idle_worker_has_ended(site: SampleSite) -> None:
    async with running(SOON) as workers:
        process = await process_of(workers)
        process.suspend()  # a suspended worker cannot end before it is killed
        await until_stopped(workers)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        await eventually(lambda: gone(process))


async def test_closing_the_workers_during_an_idle_stop_leaves_no_process() -> None:
    for turns in (0, 1, 5):
        async with running(SOON) as workers:
            process = await process_of(workers)
            await until_stopped(workers)
            for _ in range(turns):
                await asyncio.sleep(0)
            await workers.aclose()
            assert gone(process)
            with pytest.raises(ServerPYError):
                await workers.start()


async def test_a_worker_that_replaces_a_dead_worker_also_stops_when_it_is_idle() -> None:
    async with running(WorkersLimits(idle=1.0)) as workers:
        (await process_of(workers)).kill()
        await eventually(lambda: workers.state().restarts == 1)
        await eventually(lambda: workers.state().status == "running")
        await until_stopped(workers)
        assert workers.state().restarts == 1


async def test_the_first_request_starts_a_worker_even_if_start_was_not_called_before(site: SampleSite) -> None:
    workers = Workers(OPTIONS, SOON)
    try:
        assert workers.state().status == "stopped"
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        await until_stopped(workers)
    finally:
        await workers.aclose()
