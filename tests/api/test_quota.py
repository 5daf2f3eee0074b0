"""Tests of the daily quota of bytes of an API key, even if the quota ends in the middle of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Message

from serverpy.access.grant import Grant
from serverpy.access.key import Key
from serverpy.access.limits import Limits
from serverpy.access.refusals import Refusals
from serverpy.api.protocol import CUT
from serverpy.api.responses import StreamResponse
from serverpy.engine import Engine
from serverpy.errors import QuotaExceeded, ServerPYError
from serverpy.plan import StreamRequest
from serverpy.running import Running
from serverpy.sample.site import SampleSite
from serverpy.settings import load_settings
from serverpy.tasks import spawn
from tests.aio import eventually
from tests.opening import rest_of

PAGE = "/media/prog.mp4"


@asynccontextmanager
async def started(site: SampleSite) -> AsyncIterator[Engine]:
    async with Engine(load_settings(allow_networks=site.http.removeprefix("http://"))) as engine:
        yield engine


def grant(limits: Limits, quota: int) -> Grant:
    return limits.grant_for("192.0.2.1", Key(name="family", digest=b"", bytes_per_day=quota, streams=1))


async def test_a_stream_that_exceeds_the_quota_is_cut_and_later_streams_are_refused(site: SampleSite) -> None:
    size = len(site.path("prog.mp4").read_bytes())
    quota, limits, running, cut = size // 2, Limits(), Running(), asyncio.Event()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # the read never ends

    async with started(site) as engine:
        asked = StreamRequest(url=f"{site.http}{PAGE}")
        response = StreamResponse(
            lambda record: engine.delivery.open(asked, record, grant(limits, quota)),
            lambda stream: (200, {"Content-Length": str(stream.head.length)}),
            running=running,
            request_id="1",
            stall_timeout=60,
            refusals=Refusals(),
        )
        scope = {"type": "http", "method": "GET", "extensions": {CUT: cut.set}, "client": ("192.0.2.1", 1)}
        serving = spawn(response(scope, receive, send), name="serve")
        await eventually(lambda: list(running))
        (record,) = running
        await serving
        body = b"".join(message.get("body", b"") for message in sent)
        assert cut.is_set()
        assert len(body) == quota
        assert not any(message.get("more_body") is False for message in sent)
        assert record.end == "quota_exceeded"
        with pytest.raises(QuotaExceeded) as refusal:
            await engine.delivery.open(asked, grant=grant(limits, quota))
        assert 0 < refusal.value.retry_after <= 86400
        assert (len(limits.streams), engine.budget.streams) == (0, 0)


async def test_all_streams_of_a_key_share_its_quota(site: SampleSite) -> None:
    size = len(site.path("prog.mp4").read_bytes())
    limits = Limits()
    async with started(site) as engine:
        asked = StreamRequest(url=f"{site.http}{PAGE}")
        first = await engine.delivery.open(asked, grant=grant(limits, size + 1000))
        assert sum([len(chunk) async for chunk in first]) == size
        await first.aclose()
        second = await engine.delivery.open(asked, grant=grant(limits, size + 1000))
        with pytest.raises(QuotaExceeded):
            await rest_of(second)
        await second.aclose()
        await second.aclose()
        assert len(limits.streams) == 0


async def test_a_stream_exactly_as_long_as_the_quota_is_sent_completely(site: SampleSite) -> None:
    size = len(site.path("prog.mp4").read_bytes())
    limits = Limits()
    async with started(site) as engine:
        asked = StreamRequest(url=f"{site.http}{PAGE}")
        stream = await engine.delivery.open(asked, grant=grant(limits, size))
        assert sum([len(chunk) async for chunk in stream]) == size
        await stream.aclose()


async def test_a_failed_stream_and_a_closed_head_request_no_longer_count_as_open_streams(site: SampleSite) -> None:
    limits = Limits()
    async with started(site) as engine:
        head = await engine.delivery.open(
            StreamRequest(url=f"{site.http}{PAGE}", head_only=True), grant=grant(limits, 10)
        )
        await head.aclose()
        assert len(limits.streams) == 0
        with pytest.raises(ServerPYError):
            await engine.delivery.open(StreamRequest(url=f"{site.http}/media/gone.mp4"), grant=grant(limits, 10))
        assert len(limits.streams) == 0
