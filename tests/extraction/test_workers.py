"""Tests of the pool of workers: timeouts, the queue, and workers that hang, die or fail to start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serverpy.errors import (
    Busy,
    ConfigurationError,
    Draining,
    ExtractionFailed,
    ExtractionTimeout,
    ServerPYError,
    UpstreamFailed,
)
from serverpy.extraction.pool import SETTINGS_DO_NOT_WORK, WorkersLimits
from serverpy.extraction.workers import Workers
from serverpy.sample.site import SampleSite
from tests.aio import PATIENCE_SECONDS, eventually
from tests.extraction.workers import (
    IMPATIENT,
    OPTIONS,
    children_of,
    download_process_of,
    fails,
    limit_extractions,
    options,
    process_of,
    reader,
    replaced,
    running,
)
from tests.processes import gone


async def test_an_extraction_of_a_stalled_page_times_out_and_frees_its_thread(site: SampleSite) -> None:
    """After the timeout, the worker closes its connection to the site, and continues with other requests."""
    async with running(extract_timeout=0.5, extract_workers=1) as workers:
        pid = (await process_of(workers)).pid
        assert type(await fails(workers, f"{site.http}/page/slow?seconds=600")) is ExtractionTimeout
        limit_extractions(workers, 60)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert (await process_of(workers)).pid == pid
        assert workers.state().restarts == 0


async def test_an_extractor_that_swallows_exceptions_is_stopped_at_its_timeout(site: SampleSite) -> None:
    async with running(extract_timeout=0.5, extract_workers=1) as workers:
        pid = (await process_of(workers)).pid
        url = f"{site.http}/probe/swallow?to={site.http}/page/slow"
        assert type(await fails(workers, url)) is ExtractionTimeout
        await eventually(lambda: not workers.state().extractions)
        assert (await process_of(workers)).pid == pid


async def test_a_worker_inherits_no_file_descriptor_from_its_server(site: SampleSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        inode = os.readlink(f"/proc/self/fd/{listener.fileno()}")
        async with running() as workers:
            await workers.extract(f"{site.http}/page/prog")
            opened = _files_of((await process_of(workers)).pid)
            assert len(opened) > 3
            assert inode not in opened


def _files_of(pid: int) -> set[str]:
    """Return the names of the files that the process `pid` has open. A descriptor that the process closes during the
    call may be missing."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(descriptor))
    return found


async def test_an_extraction_that_hangs_retires_its_worker_process_but_no_other_request_fails(
    site: SampleSite, tmp_path: Path
) -> None:
    async with running(IMPATIENT) as workers:
        old = await process_of(workers)
        held = asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go"))
        await eventually(lambda: workers.state().extractions == 1)
        limit_extractions(workers, 0.3)
        assert type(await fails(workers, f"{site.http}/probe/hang")) is ExtractionTimeout
        await eventually(lambda: replaced(workers, old))
        limit_extractions(workers, 60)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert (await process_of(workers)).pid != old.pid
        (tmp_path / "go").touch()
        assert (await held).tracks
        await eventually(lambda: gone(old))


async def test_extractions_whose_process_dies_are_repeated_in_another_process(site: SampleSite, tmp_path: Path) -> None:
    async with running() as workers:
        first = await process_of(workers)
        held = [
            asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go&{number}"))
            for number in range(3)
        ]
        await eventually(lambda: workers.state().extractions == 3)
        first.send_signal(signal.SIGKILL)
        await eventually(lambda: workers.state().reruns == 3)
        (tmp_path / "go").touch()
        assert all(media.tracks for media in await asyncio.gather(*held))
        assert workers.state().restarts == 1


async def test_a_page_that_crashes_its_extraction_process_fails_without_failing_other_extractions(
    site: SampleSite, tmp_path: Path
) -> None:
    async with running() as workers:
        held = asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go"))
        await eventually(lambda: workers.state().extractions == 1)
        deadly = asyncio.ensure_future(fails(workers, f"{site.http}/probe/die"))
        await eventually(lambda: workers.state().reruns == 2)
        (tmp_path / "go").touch()
        assert (await held).tracks
        assert type(await deadly) is ExtractionFailed


async def test_workers_that_crash_again_and_again_are_restarted_after_growing_pauses(site: SampleSite) -> None:
    async with running(WorkersLimits(first_pause=0.1)) as workers:
        started = time.monotonic()
        for _ in range(3):
            assert type(await fails(workers, f"{site.http}/probe/die")) is ExtractionFailed
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert time.monotonic() - started > 0.1 * 2 + 0.1 * 4


async def test_cancelling_an_extraction_frees_its_thread_in_the_worker(site: SampleSite) -> None:
    async with running(extract_workers=1) as workers:
        asked = asyncio.ensure_future(workers.extract(f"{site.http}/page/slow?seconds=600"))
        process = await process_of(workers)
        await eventually(lambda: workers.state().extractions)
        asked.cancel()
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert (await process_of(workers)).pid == process.pid


async def test_an_extraction_beyond_max_extractions_waits_and_is_then_refused_as_busy(
    site: SampleSite, tmp_path: Path
) -> None:
    async with running(max_extractions=1, wait_seconds=0.2) as workers:
        first = asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go"))
        await eventually(lambda: workers.state().extractions)
        assert type(await fails(workers, f"{site.http}/page/prog")) is Busy
        assert workers.state().refused == 1
        (tmp_path / "go").touch()
        assert (await first).tracks
        assert (await workers.extract(f"{site.http}/page/prog")).tracks


async def test_waiting_extractions_start_in_the_order_of_their_arrival(site: SampleSite) -> None:
    async with running(max_extractions=1) as workers:
        ended: list[int] = []

        async def ask(number: int) -> None:
            await workers.extract(f"{site.http}/page/prog?{number}")
            ended.append(number)

        await asyncio.gather(*(ask(number) for number in range(8)))
        assert ended == list(range(8))


async def test_cancelling_a_download_closes_its_pipe(site: SampleSite) -> None:
    async with running(max_workers=1) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, film.tracks[0].id, writing)
        process = download_process_of(workers)
        second_reading, second_writing = os.pipe()
        with pytest.raises(Busy):
            await workers.download(film.raw_id, film.tracks[0].id, second_writing)
        os.close(second_reading)
        await download.cancel()
        with pytest.raises(ServerPYError):
            await download.wait()
        await asyncio.to_thread(reader(reading))
        assert not workers.state().downloads
        assert download_process_of(workers).pid == process.pid


async def test_an_extraction_that_holds_the_interpreter_lock_does_not_delay_a_download(site: SampleSite) -> None:
    """The extraction process cannot reply while an extractor holds the interpreter lock, and is replaced at the timeout
    of the extraction."""
    async with running(IMPATIENT) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, film.tracks[0].id, writing)
        old = await process_of(workers)
        frozen = asyncio.ensure_future(fails(workers, f"{site.http}/probe/backtrack"))
        await eventually(lambda: workers.state().extractions == 1)
        received = await asyncio.to_thread(reader(reading))
        assert not frozen.done()
        assert received == site.path("prog.mp4").read_bytes()
        assert await download.wait() == len(received)
        frozen.cancel()
        await eventually(lambda: gone(old))


SOON_FROZEN = WorkersLimits(grace=0.3, frozen=0.5)


async def test_a_page_that_holds_the_interpreter_lock_does_not_delay_other_pages_until_its_own_timeout(
    site: SampleSite, tmp_path: Path
) -> None:
    """The process is replaced. Its pages are then extracted again one at a time, and the misbehaving page gets a
    process for itself."""
    async with running(SOON_FROZEN, extract_timeout=600) as workers:
        first = await process_of(workers)
        held = asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go"))
        await eventually(lambda: workers.state().extractions == 1)
        culprit = asyncio.ensure_future(workers.extract(f"{site.http}/probe/backtrack"))
        await eventually(lambda: workers.state().reruns == 2)
        assert gone(first)
        (tmp_path / "go").touch()
        assert (await held).tracks
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert not culprit.done()
        culprit.cancel()
        await eventually(lambda: len(workers.state().pids) <= 2)


async def test_a_page_that_holds_the_interpreter_lock_for_a_while_is_still_extracted(site: SampleSite) -> None:
    async with running(SOON_FROZEN, extract_timeout=600) as workers:
        assert (await workers.extract(f"{site.http}/probe/freeze?to=3")).tracks
        assert workers.state().reruns == 1


async def test_extractions_of_two_pages_run_in_parallel_even_if_both_pages_make_yt_dlp_hold_the_interpreter_lock(
    site: SampleSite,
) -> None:
    async with running(SOON_FROZEN, extract_timeout=600) as workers:
        culprits = [asyncio.ensure_future(workers.extract(f"{site.http}/probe/backtrack?{each}")) for each in range(2)]
        await eventually(lambda: workers.state().reruns == 2)
        await eventually(lambda: len(workers.state().pids) == 3)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert not any(each.done() for each in culprits)
        for each in culprits:
            each.cancel()
        await eventually(lambda: len(workers.state().pids) <= 1)


async def test_a_frozen_extraction_process_is_replaced_at_the_timeout_of_an_extraction(site: SampleSite) -> None:
    async with running(IMPATIENT, extract_timeout=0.5) as workers:
        frozen = await process_of(workers)
        frozen.suspend()
        assert type(await fails(workers, f"{site.http}/page/prog")) is ExtractionTimeout
        await eventually(lambda: gone(frozen))
        limit_extractions(workers, 60)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks


async def test_a_frozen_download_process_is_killed_if_one_of_its_downloads_is_cancelled(site: SampleSite) -> None:
    async with running(replace(IMPATIENT, answer=0.3)) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        downloads, pipes = [], []
        for _ in range(2):
            reading, writing = os.pipe()
            pipes.append(reading)
            downloads.append(await workers.download(film.raw_id, film.tracks[0].id, writing))
        old = download_process_of(workers)
        old.suspend()
        await downloads[0].cancel()
        await eventually(lambda: gone(old))
        with pytest.raises(UpstreamFailed, match="ended unexpectedly"):
            await downloads[1].wait()
        for descriptor in pipes:
            os.close(descriptor)


async def test_a_download_is_stopped_even_if_the_caller_does_not_wait_for_the_end_of_its_cancellation(
    site: SampleSite,
) -> None:
    async with running(IMPATIENT) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, film.tracks[0].id, writing)
        frozen = download_process_of(workers)
        frozen.suspend()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await download.cancel()
        await eventually(lambda: gone(frozen))
        os.close(reading)
        reading, writing = os.pipe()
        await workers.download(film.raw_id, film.tracks[0].id, writing)
        assert await asyncio.to_thread(reader(reading)) == site.path("prog.mp4").read_bytes()


async def test_the_download_process_starts_with_the_first_download(site: SampleSite) -> None:
    async with running() as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        assert workers.state().download_pids == ()
        reading, writing = os.pipe()
        await workers.download(film.raw_id, film.tracks[0].id, writing)
        assert len(workers.state().download_pids) == 1
        os.close(reading)


async def test_a_worker_with_invalid_settings_is_started_only_once_and_clients_do_not_get_its_error_text(
    site: SampleSite,
) -> None:
    workers = Workers(options(impersonate="toaster-9"))
    try:
        found = await asyncio.gather(*(fails(workers, f"{site.http}/page/prog?{number}") for number in range(3)))
        found.append(await fails(workers, f"{site.http}/page/prog"))
        assert {type(each) for each in found} == {ExtractionFailed}
        assert {str(each) for each in found} == {SETTINGS_DO_NOT_WORK}
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="toaster-9"):
                await workers.start()
        assert workers.state().restarts == 1
    finally:
        await workers.aclose()


async def test_extractions_succeed_again_after_an_invalid_cookie_file_has_been_repaired(
    site: SampleSite, tmp_path: Path
) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text("# Netscape HTTP Cookie File\n")
    async with running(WorkersLimits(first_pause=0.01), cookies_file=str(path)) as workers:
        path.write_text("no such thing")
        assert str(await fails(workers, f"{site.http}/page/prog")) == SETTINGS_DO_NOT_WORK
        (await process_of(workers)).kill()
        await eventually(lambda: workers.state().restarts > 1)
        assert str(await fails(workers, f"{site.http}/page/prog")) == SETTINGS_DO_NOT_WORK
        path.write_text("# Netscape HTTP Cookie File\n\n")
        assert (await workers.extract(f"{site.http}/page/prog")).tracks


async def test_closing_the_workers_makes_running_extractions_fail_and_kills_their_child_processes(
    site: SampleSite,
) -> None:
    async with running() as workers:
        process = await process_of(workers)
        hanging = [
            asyncio.ensure_future(fails(workers, f"{site.http}/probe/{what}")) for what in ("hang", "child?to=3600")
        ]
        await eventually(lambda: children_of(process))
        children = children_of(process)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await workers.aclose()
        assert [type(await each) for each in hanging] == [Draining] * 2
        await eventually(lambda: all(gone(child) for child in children))


async def test_the_start_of_a_worker_continues_even_if_its_callers_have_left(site: SampleSite) -> None:
    workers = Workers(OPTIONS)
    try:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(workers.extract(f"{site.http}/page/prog"), 0.05)
        await eventually(lambda: workers.state().status == "running")
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert workers.state().restarts == 0
    finally:
        await workers.aclose()


async def test_closing_the_workers_while_a_worker_starts_leaves_no_process() -> None:
    ours = psutil.Process()
    before = {child.pid for child in ours.children()}
    for turns in (0, 1, 3, 30, 300):
        workers = Workers(OPTIONS)
        starting = asyncio.ensure_future(workers.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        await workers.aclose()
        with pytest.raises(ServerPYError):
            await starting
    await eventually(lambda: {child.pid for child in ours.children()} <= before)


async def test_all_waiting_requests_fail_if_no_worker_can_be_started(site: SampleSite, tmp_path: Path) -> None:
    """Even the last request in the queue fails at once, although no running request ends that would wake it."""
    path = tmp_path / "cookies.txt"
    path.write_text("# Netscape HTTP Cookie File\n")
    limits = WorkersLimits(first_pause=0.01, longest_pause=0.01)
    async with running(limits, wait_seconds=50, cookies_file=str(path), max_extractions=1) as workers:
        slow = f"{site.http}/page/slow?seconds=60"
        asked = [asyncio.ensure_future(fails(workers, f"{slow}&{number}")) for number in range(5)]
        await eventually(lambda: workers.state().waiting == 4)
        path.unlink()
        (await process_of(workers)).kill()
        assert {type(each) for each in await asyncio.gather(*asked)} == {ExtractionFailed}
