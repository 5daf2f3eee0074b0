"""Tests of the time limit on the first byte. Every timeout in its block becomes a timeout of the media server."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import NotMedia, ServerPYError, UpstreamTimeout
from serverpy.streaming.deadline import FirstByteWithin
from serverpy.tasks import spawn

SHORT = 0.02
LONG = 30.0


async def test_a_block_that_exceeds_its_time_limit_raises_upstream_timeout() -> None:
    with pytest.raises(UpstreamTimeout), FirstByteWithin(SHORT):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_error_in_the_block_becomes_upstream_timeout() -> None:
    with pytest.raises(UpstreamTimeout), FirstByteWithin(LONG):
        async with asyncio.timeout(SHORT):
            await asyncio.Event().wait()


@pytest.mark.parametrize("error", [NotMedia("no media"), UpstreamTimeout("no response")])
async def test_other_errors_of_the_block_are_raised_unchanged(error: ServerPYError) -> None:
    with pytest.raises(type(error)) as caught, FirstByteWithin(LONG):
        raise error
    assert caught.value is error


async def test_a_block_within_its_time_limit_is_not_cancelled_later() -> None:
    with FirstByteWithin(0):  # the event loop cannot cancel a block that does not wait
        pass
    for _ in range(3):  # the event loop runs a timer of 0 s in these iterations
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancelled_task_stays_cancelled() -> None:
    async def wait() -> None:
        with FirstByteWithin(LONG):
            await asyncio.Event().wait()

    task = spawn(wait(), name="wait")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
