"""Both methods of yt-dlp against a site as picky as real ones (headers, cookies, POST, chunks, a waiting time), with
the real worker process and real children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import serverpy.sample
from serverpy.body import Source
from serverpy.errors import UnsupportedConversion
from serverpy.extraction.messages import WorkerOptions
from serverpy.extraction.workers import Workers
from serverpy.net.egress import Egress
from serverpy.net.guard import Guard, parse_networks
from serverpy.sample.site import SampleSite
from serverpy.streaming.methods.embedded import Embedded
from serverpy.streaming.methods.subprocess import ChildOptions, Subprocess
from tests.aio import eventually
from tests.opening import opened

PLUGINS = (str(Path(serverpy.sample.__file__).parent / "plugins"),)


class Pages:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.fresh = 0

    async def extract(self, url: str, *, fresh: bool = False) -> Any:
        self.fresh += fresh
        return await self._workers.extract(url)


@asynccontextmanager
async def embedding() -> AsyncIterator[tuple[Embedded, Workers, Pages]]:
    workers = Workers(WorkerOptions(allow_networks=("127.0.0.0/8",), plugin_paths=PLUGINS))
    pages = Pages(workers)
    try:
        embedded = Embedded(
            workers, pages, max_workers=2, wait_seconds=1, stall_timeout=20, pipe_bytes=65536, chunk_bytes=65536
        )
        yield embedded, workers, pages
    finally:
        await workers.aclose()


@asynccontextmanager
async def children() -> AsyncIterator[Subprocess]:
    egress = Egress(Guard(parse_networks(["127.0.0.0/8"])))
    await egress.start()
    try:
        options = ChildOptions(proxy_url=lambda: egress.url, plugin_paths=PLUGINS)
        yield Subprocess(options, max_children=2, wait_seconds=1, pipe_bytes=65536, chunk_bytes=65536)
    finally:
        await egress.aclose()


async def read_all(body: Any) -> bytes:
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_embedded_honours_what_the_extraction_found(site: SampleSite) -> None:
    async with embedding() as (embedded, workers, _):
        for name in ("headers", "chunked", "post", "later"):
            url = f"{site.http}/tube/watch/{name}"
            media = await workers.extract(url)
            body = await opened(embedded, Source(url=url, media=media))
            assert await read_all(body) == site.path("prog.mp4").read_bytes(), name
            await body.aclose()


async def test_embedded_extracts_again_when_the_worker_was_replaced(site: SampleSite) -> None:
    async with embedding() as (embedded, workers, pages):
        url = f"{site.http}/tube/watch/headers"
        media = await workers.extract(url)
        lost = replace(media, raw_id="ffff-1")
        body = await opened(embedded, Source(url=url, media=lost))
        assert pages.fresh == 1
        assert await read_all(body) == site.path("prog.mp4").read_bytes()
        await body.aclose()


async def test_embedded_frees_the_worker_when_the_reader_leaves(site: SampleSite) -> None:
    async with embedding() as (embedded, workers, _):
        url = f"{site.http}/fault/stall=100000/media/prog.mp4"
        media = await workers.extract(url)
        for _ in range(3):
            body = await opened(embedded, Source(url=url, media=media))
            began = asyncio.get_running_loop().time()
            await body.aclose()
            assert asyncio.get_running_loop().time() - began < 1
        state = workers.state()
        assert state.downloads == 0
        assert state.restarts == 0
        await eventually(lambda: site.open_connections == 0)


@pytest.mark.parametrize("name", ["headers", "chunked", "post", "later"])
async def test_subprocess_honours_what_its_child_found(site: SampleSite, name: str) -> None:
    async with children() as method:
        body = await opened(method, Source(url=f"{site.http}/tube/watch/{name}"))
        assert await read_all(body) == site.path("prog.mp4").read_bytes()
        await body.aclose()


async def test_subprocess_refuses_a_live_stream(site: SampleSite) -> None:
    async with children() as method:
        with pytest.raises(UnsupportedConversion):
            await opened(method, Source(url=f"{site.http}/tube/live/now"))


async def test_subprocess_takes_the_item_that_was_asked_for(site: SampleSite) -> None:
    async with children() as method:
        titles = []
        for item in (None, 1, 2):
            body = await opened(method, Source(url=f"{site.http}/tube/playlist/list-12", item=item, format="b/bv*"))
            titles.append(body.head.title)
            await body.aclose()
        assert titles[0] == titles[1] != titles[2]
