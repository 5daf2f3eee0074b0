"""Tests that the child processes of an extraction end together with the extraction, and that extractions leave no
files, descriptors or threads behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from serverpy.errors import ExtractionTimeout
from serverpy.extraction.worker import DIRECTORY_PREFIX
from serverpy.sample.site import SampleSite
from tests.aio import eventually
from tests.extraction.workers import children_of, fails, limit_extractions, process_of, running
from tests.processes import gone


async def test_the_child_processes_of_a_worker_that_dies_are_killed(site: SampleSite) -> None:
    async with running() as workers:
        process = await process_of(workers)
        running_child = asyncio.ensure_future(fails(workers, f"{site.http}/probe/child?to=3600"))
        await eventually(lambda: children_of(process))
        [child] = children_of(process)
        process.send_signal(signal.SIGKILL)
        await eventually(lambda: gone(child))
        running_child.cancel()  # the extraction is repeated in another process
        with pytest.raises(asyncio.CancelledError):
            await running_child


async def test_at_most_two_javascript_children_of_a_worker_run_and_are_killed_at_the_extraction_timeout(
    site: SampleSite,
) -> None:
    async with running(extract_workers=4, extract_timeout=5.0) as workers:
        process = await process_of(workers)
        url = f"{site.http}/probe/child?to=3600"
        asked = [asyncio.ensure_future(fails(workers, url)) for _ in range(4)]
        await eventually(lambda: len(children_of(process)) == 2)
        assert workers.state().extractions == 4
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, len(children_of(process)))
            await asyncio.wait(asked, timeout=0.02)
        assert most == 2
        assert {type(await each) for each in asked} == {ExtractionTimeout}
        await eventually(lambda: not children_of(process))
        assert (await process_of(workers)).pid == process.pid


async def test_the_timeout_of_one_extraction_does_not_end_the_child_of_another(site: SampleSite) -> None:
    async with running(extract_timeout=1.0) as workers:
        doomed = asyncio.ensure_future(fails(workers, f"{site.http}/probe/child?to=3600"))
        await eventually(lambda: workers.state().extractions == 1)
        limit_extractions(workers, 60)
        spared = asyncio.ensure_future(workers.extract(f"{site.http}/probe/child?to=2"))
        assert type(await doomed) is ExtractionTimeout
        started, ended = json.loads((await spared).title)
        assert ended - started >= 2


async def test_a_child_that_an_extraction_leaves_running_is_killed_when_the_extraction_ends(site: SampleSite) -> None:
    async with running() as workers:
        child = psutil.Process(int(json.loads((await workers.extract(f"{site.http}/probe/orphan")).title)))
        await eventually(lambda: gone(child))


async def test_a_hundred_extractions_leave_no_file_descriptor_and_no_thread(site: SampleSite) -> None:
    async with running() as workers:
        process = await process_of(workers)

        async def some(count: int) -> None:
            for number in range(count):
                path = ("/page/hls-ts", "/tube/watch/full", "/page/prog", "/tube/playlist/list-15")[number % 4]
                await workers.extract(site.http + path)

        await some(20)
        fds, threads = process.num_fds(), process.num_threads()
        await some(100)
        await eventually(lambda: process.num_fds() <= fds and process.num_threads() <= threads)


async def test_a_new_worker_removes_the_private_directories_that_a_killed_server_and_its_worker_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new worker does not delete the private directories of a server that is still running."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{DIRECTORY_PREFIX}left"
    left.mkdir()
    (left / "cookies.txt").write_text("secret")
    async with running():
        (first,) = os.listdir(tmp_path)
        assert first != left.name
        async with running():
            assert first in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []
