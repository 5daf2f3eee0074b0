"""Tests that the worker imports curl_cffi only for the first request that must impersonate a browser."""

from __future__ import annotations

import psutil

from serverpy.sample.site import SampleSite
from tests.extraction.workers import process_of, running


def loaded(process: psutil.Process) -> bool:
    return any("curl_cffi" in mapped.path for mapped in process.memory_maps())


async def test_the_worker_imports_curl_cffi_when_a_page_requires_impersonation(site: SampleSite) -> None:
    async with running() as workers:
        process = await process_of(workers)
        ready = workers.state().ready
        assert ready is not None
        assert ready.impersonation
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert not loaded(process)
        assert await workers.extract(f"{site.http}/probe/impersonated?to={site.http}/page/prog")
        assert loaded(process)


async def test_a_worker_that_always_impersonates_a_browser_imports_curl_cffi_at_its_start() -> None:
    async with running(impersonate="chrome") as workers:
        assert loaded(await process_of(workers))
