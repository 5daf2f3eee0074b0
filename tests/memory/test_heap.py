"""Tests that, after the last stream has ended, the process returns the free memory of its heap to the system once."""

from __future__ import annotations

import asyncio

from serverpy.memory.budget import Budget
from serverpy.memory.heap import Heap
from tests.aio import eventually
from tests.memory.budgets import admitted


async def test_the_free_memory_of_the_heap_is_returned_to_the_system_once_after_the_last_stream_has_ended() -> None:
    budget = Budget(1000, 10, 1.0)
    given: list[int] = []
    looks = 0

    class Watched:
        admitted = property(lambda _: budget.admitted)

        @property
        def streams(self) -> int:
            nonlocal looks
            looks += 1
            return budget.streams

    async def look_again() -> None:
        now = looks
        await eventually(lambda: looks > now + 2)

    heap = Heap(Watched(), seconds=0.001, give_back=lambda: given.append(budget.streams))
    heap.start()
    await look_again()
    assert not given  # no stream has run yet
    async with admitted(budget, 100):
        async with admitted(budget, 100):
            await look_again()
        await look_again()
        assert not given
    await eventually(lambda: given)
    await look_again()
    assert given == [0]
    async with admitted(budget, 100):
        pass
    await eventually(lambda: len(given) == 2)
    assert given == [0, 0]
    await heap.aclose()


async def test_closing_ends_the_background_task_that_returns_memory() -> None:
    before = asyncio.all_tasks()
    heap = Heap(Budget(1000, 10, 1.0))
    heap.start()
    assert len(asyncio.all_tasks()) == len(before) + 1
    await heap.aclose()
    assert asyncio.all_tasks() == before
