"""Tests of the class `Stall`, the timeout of each step in a block, and of interrupting a read. A step that takes too
long ends its block with TimeoutError. Interrupting a read ends it while it waits. These tests sleep, because they
measure the time of a step."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serverpy import tasks
from serverpy.errors import Busy, UpstreamFailed, shortage
from serverpy.tasks import Interruptible, Stall, cancel, in_thread, limit_thread_starts, spawn

SHORT = 0.02


async def hang(seconds: float, before: float = 0.0) -> None:
    """Wait `before` seconds in a block, and then begin a step that never ends. `seconds` is the timeout of a step."""
    with Stall(seconds) as stall:
        await asyncio.sleep(before)
        stall.begin()
        await asyncio.Event().wait()


async def test_a_step_that_exceeds_its_timeout_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        await hang(SHORT)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_time_between_two_steps_does_not_count_towards_the_timeout_of_a_step() -> None:
    with Stall(SHORT) as stall:
        stall.begin()
        stall.end()
        await asyncio.sleep(5 * SHORT)


async def test_each_step_in_a_block_has_the_full_timeout() -> None:
    with Stall(50 * SHORT) as stall:
        for _ in range(15):
            stall.begin()
            await asyncio.sleep(5 * SHORT)
            stall.end()


async def test_the_timeout_of_a_step_begins_with_the_step_and_not_with_the_block() -> None:
    """A timer runs from the beginning of the block. The timer must not end a step that begins later until this step has
    had its full timeout."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(TimeoutError):
        await hang(4 * SHORT, before=3 * SHORT)
    assert loop.time() - begun >= 7 * SHORT - 0.001


async def test_expiring_a_stall_ends_its_block_and_has_no_effect_after_the_end_of_the_block() -> None:
    stall = Stall(60)

    async def hang_until_expired() -> None:
        with stall:
            asyncio.get_running_loop().call_soon(stall.expire)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hang_until_expired()
    stall.expire()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_cancelling_a_step_raises_cancelled_error_and_not_timeout_error() -> None:
    task = spawn(hang(60), name="hang")
    await asyncio.sleep(0)
    await cancel(task)
    assert task.cancelled()


async def test_an_exception_in_the_block_of_a_stall_is_raised_unchanged() -> None:
    async def fail() -> None:
        with Stall(60) as stall:
            stall.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_interrupting_a_read_makes_the_read_raise_and_waits_until_it_has_ended() -> None:
    reads, ended = Interruptible(), asyncio.Event()

    async def read() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def reader() -> int:
        with pytest.raises(UpstreamFailed):
            await reads.run(read())
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    reading = spawn(reader(), name="read")
    await asyncio.sleep(0)
    await asyncio.gather(reads.interrupt(), reads.interrupt())
    assert ended.is_set()
    assert await reading == 0


async def test_interrupting_a_reader_that_has_been_cancelled_raises_no_error() -> None:
    reads = Interruptible()
    reading = spawn(reads.run(asyncio.sleep(60)), name="read")
    await asyncio.sleep(0)
    await cancel(reading)
    assert reading.cancelled()
    await reads.interrupt()


async def test_a_read_that_is_cancelled_and_interrupted_at_once_ends_as_cancelled() -> None:
    reads = Interruptible()
    reading = spawn(reads.run(asyncio.sleep(60)), name="read")
    await asyncio.sleep(0)
    reading.cancel()
    await reads.interrupt()
    await asyncio.wait([reading])
    assert reading.cancelled()


async def test_a_cancelled_caller_waits_for_the_end_of_its_thread_and_chains_the_error_of_the_thread() -> None:
    going, ended = threading.Event(), threading.Event()

    def fail() -> None:
        going.wait()
        ended.set()
        raise OSError("the disk is full")

    caller = spawn(in_thread(fail, name="fail"), name="caller")
    await asyncio.sleep(0)
    caller.cancel()
    going.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert ended.is_set()
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_thread_that_ends_before_it_has_begun_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new thread that finds no memory ends in its first lines of Python."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)  # so that the change ends with the test
    monkeypatch.setattr(tasks, "START_SECONDS", SHORT)
    limit_thread_starts()
    limit_thread_starts()
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "_bootstrap", lambda _thread: None)
        before = threading.active_count()
        with pytest.raises(RuntimeError) as caught:
            await in_thread(lambda: None, name="x")
        assert isinstance(shortage(caught.value), Busy)
        assert threading.active_count() <= before
    assert await in_thread(lambda: 5, name="x") == 5
