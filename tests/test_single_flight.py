"""Tests of single flight: concurrent callers with the same key share one call of a function. A caller that is cancelled
does not affect the others."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import Draining, MediaNotFound
from serverpy.single_flight import LedFlights, SharedFlights
from serverpy.tasks import cancel, spawn
from tests.memory.budgets import turn


class Runs:
    """Counter of the calls of the shared function `make`. Each call ends once the test sets `go`."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def make(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return number


Flights = SharedFlights[str, int] | LedFlights[str, int]


def flights(kind: str) -> Flights:
    return SharedFlights[str, int]("a run") if kind == "shared" else LedFlights[str, int]()


async def callers(tested: Flights, runs: Runs, count: int) -> list[asyncio.Task[int]]:
    """Start `count` callers with the same key. The first of them calls the shared function."""
    tasks = [spawn(tested.run("key", runs.make), name="caller") for _ in range(count)]
    await turn()
    return tasks


each_kind = pytest.mark.parametrize("kind", ["shared", "led"])


@each_kind
async def test_all_callers_of_a_shared_call_get_its_result_but_the_result_is_not_cached(kind: str) -> None:
    tested, runs = flights(kind), Runs()
    tasks = await callers(tested, runs, 3)
    runs.go.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    assert await tested.run("key", runs.make) == 2


@each_kind
async def test_a_caller_with_a_different_key_starts_a_call_of_its_own(kind: str) -> None:
    tested, runs = flights(kind), Runs()
    tasks = await callers(tested, runs, 2)
    runs.go.set()
    assert await tested.run("another key", runs.make) == 2
    assert await asyncio.gather(*tasks) == [1, 1]


@each_kind
async def test_every_caller_of_a_shared_call_that_fails_gets_its_error(kind: str) -> None:
    tested, runs = flights(kind), Runs()
    tasks = await callers(tested, runs, 3)
    runs.error = MediaNotFound("Nothing here.")
    runs.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [runs.error] * 3
    runs.error = None
    assert await tested.run("key", runs.make) == 2


@each_kind
async def test_a_caller_that_waits_for_a_shared_call_can_be_cancelled(kind: str) -> None:
    tested, runs = flights(kind), Runs()
    first, second, third = await callers(tested, runs, 3)
    await cancel(second)
    runs.go.set()
    assert (await first, await third) == (1, 1)
    assert (runs.begun, runs.cancelled) == (1, 0)


async def test_a_shared_call_continues_without_its_first_caller_and_ends_when_its_last_caller_is_cancelled() -> None:
    tested, runs = SharedFlights[str, int]("a run"), Runs()
    first, second, third = await callers(tested, runs, 3)
    await cancel(first)
    await cancel(second)
    await turn()
    assert (runs.cancelled, len(tested), "key" in tested) == (0, 1, True)
    await cancel(third)
    assert (len(tested), "key" in tested) == (0, False)
    (again,) = await callers(tested, runs, 1)
    assert runs.cancelled == 1
    runs.go.set()
    assert await again == 2


async def test_the_callers_of_a_shared_call_that_aclose_cancels_get_an_error() -> None:
    tested, runs = SharedFlights[str, int]("a run"), Runs()
    tasks = await callers(tested, runs, 2)
    await tested.aclose()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [Draining] * 2
    await tested.aclose()


async def test_if_the_first_caller_runs_the_shared_function_and_is_cancelled_another_caller_runs_it_again() -> None:
    tested, runs = LedFlights[str, int](), Runs()
    first, second, third = await callers(tested, runs, 3)
    await cancel(first)
    await turn()
    assert (runs.begun, runs.cancelled) == (2, 1)
    runs.go.set()
    assert (await second, await third) == (2, 2)


async def test_if_the_first_caller_runs_the_shared_function_and_all_callers_are_cancelled_a_new_one_runs_it() -> None:
    tested, runs = LedFlights[str, int](), Runs()
    tasks = await callers(tested, runs, 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    runs.go.set()
    assert await tested.run("key", runs.make) == runs.begun
