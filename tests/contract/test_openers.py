"""Tests that every opener keeps the contract in serverpy/body.py. All parts of the engine are real, but no HTTP server
runs around the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from serverpy.body import Body, Source
from serverpy.engine import Engine
from serverpy.errors import ServerPYError, UpstreamFailed
from serverpy.plan import Plan, StreamRequest, plans
from serverpy.ranges import ByteRange
from serverpy.sample import PLUGIN_PATH
from serverpy.sample.site import SampleSite
from serverpy.settings import load_settings
from serverpy.tasks import cancel, spawn
from tests.aio import eventually
from tests.opening import rest_of
from tests.server import answers_under_way


@dataclass(frozen=True)
class Sample:
    """Pages of the sample site for one opener: a page that works, and pages whose media server answers late, refuses
    the request, or stalls.

    If a path begins with `/fault/`, only the playlist has the fault, and the extraction does not read the playlist.
    """

    opener: str
    method: str
    page: str
    late: str
    refused: str
    silent: str

    def __str__(self) -> str:
        return f"{self.opener} of {self.page}"


LATE, REFUSED = "/page/fault/delay=30/prog.mp4", "/page/fault/status=404/prog.mp4"
SILENT = "/page/fault/stall=200000/prog.mp4"
WAITS_SECONDS = 0.5
"""Seconds since the start of a read after which the tests assume that the read is waiting for the media server."""
PROMPT_SECONDS = 5.0
TUBE = "/tube/watch/fault"
SAMPLES = (
    Sample("relay", "relay", "/page/prog", LATE, REFUSED, SILENT),
    Sample("relay", "relay", "/hls/ts/high.m3u8", "/fault/delay=30", "/fault/status=500", "/fault/stall=200000"),
    Sample(
        "weave",
        "relay",
        "/tube/watch/pair",
        f"{TUBE}/delay=30/pair",
        f"{TUBE}/status=404/pair",
        f"{TUBE}/stall=200000/pair",
    ),
    Sample("merge", "relay", "/page/hls-apart", "/fault/delay=30", "/fault/status=500", "/fault/stall=200000"),
    Sample("embedded", "embedded", "/page/prog", LATE, REFUSED, SILENT),
    Sample("subprocess", "subprocess", "/page/prog", LATE, REFUSED, SILENT),
)


@dataclass(frozen=True)
class Bench:
    """A running engine. The tests use the openers of this engine in the same way as the engine itself does."""

    engine: Engine
    site: SampleSite

    async def plan(self, path: str, method: str) -> tuple[Plan, Source]:
        request = StreamRequest(url=f"{self.site.http}{path}", method=method)
        allowed = self.engine.delivery.capabilities.allowed_for(request)
        media = None if allowed.extracts else await self.engine.delivery.info(request.url)
        return plans(media, request, allowed)[0], Source(url=request.url, media=media)

    async def plan_at_fault(self, sample: Sample, fault: str) -> tuple[Plan, Source]:
        if not fault.startswith("/fault/"):
            return await self.plan(fault, sample.method)
        plan, source = await self.plan(sample.page, sample.method)
        tracks = tuple(
            replace(track, url=track.url.replace(self.site.http, self.site.http + fault)) for track in plan.tracks
        )
        return replace(plan, tracks=tracks), source

    @asynccontextmanager
    async def opened(self, plan: Plan, source: Source) -> AsyncIterator[Body]:
        opener = next(each for each in self.engine.openers if each.capability.opener == plan.opener)
        reservation = await self.engine.budget.reserve(plan.nbytes)
        try:
            body = await opener.open(plan, source, reservation)
            try:
                yield body
            finally:
                await body.aclose()
        finally:
            reservation.release()

    async def at_rest(self) -> None:
        """Wait until the body, which has been closed, has no reservation and no connection, and the site is sending no
        response."""
        engine = self.engine
        await eventually(lambda: not engine.budget.streams and not engine.client.open_connections)
        await eventually(lambda: answers_under_way(self.site) == 0)
        assert engine.waiting == 0


@asynccontextmanager
async def bench(site: SampleSite) -> AsyncIterator[Bench]:
    engine = Engine(load_settings(allow_networks=site.http.removeprefix("http://")))
    try:
        await engine.start()
        yield Bench(engine, site)
    finally:
        await engine.aclose()


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
async def test_every_opener_keeps_the_contract_of_a_body(
    site: SampleSite, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN_PATH))
    async with bench(site) as parts:
        plan, source = await parts.plan(sample.page, sample.method)
        assert plan.opener == sample.opener
        whole = await reads_all_and_ends(parts, plan, source)
        await keeps_its_promises(parts, plan, source, whole)
        await reads_no_more_than_asked_for(parts, plan, source, whole)
        await can_be_closed_in_the_middle(parts, plan, source)
        await can_be_closed_while_it_is_read(parts, *await parts.plan_at_fault(sample, sample.silent))
        await can_be_cancelled_while_it_opens(parts, *await parts.plan_at_fault(sample, sample.late))
        await raises_an_error_if_refused(parts, *await parts.plan_at_fault(sample, sample.refused))


async def reads_all_and_ends(parts: Bench, plan: Plan, source: Source) -> bytes:
    async with parts.opened(plan, source) as body:
        whole = await rest_of(body)
        assert await body.read() == b""
        assert body.head.length in (None, len(whole))
        assert body.loss is None
    await body.aclose()
    await parts.at_rest()
    return whole


async def keeps_its_promises(parts: Bench, plan: Plan, source: Source, whole: bytes) -> None:
    """Check the body for a range request: it must have the bytes of the requested range if the plan promises ranges,
    and those of the whole file otherwise."""
    async with parts.opened(plan, replace(source, range=ByteRange(1000, 4999))) as body:
        head = body.head
        given = await rest_of(body)
    if plan.ranges:
        assert (head.start, head.length, head.total, head.partial) == (1000, 4000, len(whole), True)
        assert given == whole[1000:5000]
    else:
        assert (head.partial, given) == (False, whole)
    if plan.exact_length:
        assert head.length is not None
    if plan.container is not None:
        assert head.content_type == plan.container.content_type


async def reads_no_more_than_asked_for(parts: Bench, plan: Plan, source: Source, whole: bytes) -> None:
    """Check that `read` returns more bytes than requested only if these have already arrived: the first bytes of the
    body, or bytes that arrived together with the head of a segment."""
    async with parts.opened(plan, source) as body:
        pieces = [await body.read(3000) for _ in range(60)]
    assert whole.startswith(b"".join(pieces))
    assert all(pieces)
    assert sum(len(piece) > 3000 for piece in pieces) <= 6


async def can_be_closed_in_the_middle(parts: Bench, plan: Plan, source: Source) -> None:
    async with parts.opened(plan, source) as body:
        assert await body.read()
        await asyncio.gather(body.aclose(), body.aclose())
    await parts.at_rest()


async def can_be_closed_while_it_is_read(parts: Bench, plan: Plan, source: Source) -> None:
    """Check that `aclose` ends a read that waits for a media server which sends nothing."""
    loop, begun = asyncio.get_running_loop(), 0.0

    async def read_on(body: Body) -> None:
        nonlocal begun
        while True:
            begun = loop.time()
            assert await body.read()

    async with parts.opened(plan, source) as body:
        reading = spawn(read_on(body), name="read")
        await eventually(lambda: begun and loop.time() - begun > WAITS_SECONDS)
        async with asyncio.timeout(PROMPT_SECONDS):
            await asyncio.gather(body.aclose(), body.aclose())
            with pytest.raises(UpstreamFailed, match="closed while it was being read"):
                await reading
        assert not parts.engine.client.open_connections
    await parts.at_rest()


async def can_be_cancelled_while_it_opens(parts: Bench, plan: Plan, source: Source) -> None:
    async def open_it() -> None:
        async with parts.opened(plan, source):
            pytest.fail("the media server has not answered yet")

    opening = spawn(open_it(), name="open")
    await eventually(lambda: answers_under_way(parts.site) > 0)
    await cancel(opening)
    assert opening.cancelled()
    await parts.at_rest()


async def raises_an_error_if_refused(parts: Bench, plan: Plan, source: Source) -> None:
    with pytest.raises(ServerPYError):
        async with parts.opened(plan, source):
            pytest.fail("the media server refuses")
    await parts.at_rest()
