"""Tests of slots, which limit the number of streams that run at once, and of a helper that runs `aclose` only once."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import Busy
from serverpy.streaming.slots import Slots
from serverpy.tasks import Closing, spawn


async def test_a_stream_that_gets_no_slot_within_the_time_limit_is_refused_as_busy() -> None:
    slots = Slots(1, 0.02, "places")
    first = await slots.take()
    with pytest.raises(Busy):
        await slots.take()
    first.release()
    first.release()
    second = await slots.take()
    assert repr(slots) == "<Slots places: 1/1>"
    second.release()


async def test_a_waiting_stream_gets_the_next_slot_that_becomes_free() -> None:
    slots = Slots(1, 10, "places")
    first = await slots.take()
    waiting = spawn(slots.take(), name="second")
    await asyncio.sleep(0)
    first.release()
    (await waiting).release()
    assert repr(slots) == "<Slots places: 0/1>"


async def test_closing_runs_only_once_and_to_its_end_even_if_its_caller_is_cancelled() -> None:
    runs = 0
    go_on = asyncio.Event()

    async def close() -> None:
        nonlocal runs
        await go_on.wait()
        runs += 1

    closing = Closing(close, "close")
    asking = spawn(closing(), name="first caller")
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    go_on.set()
    await closing()
    assert runs == 1
