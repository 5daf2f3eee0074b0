"""Tests of the benchmark scenario `callbacks`: the recorder of long callbacks, the choice of figures, a short run."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

import pytest

from serverpy.bench.measure.callbacks import COLLECTION, Callback, record_callbacks
from serverpy.bench.measure.scenarios import new_bench
from serverpy.bench.measure.scenarios.callbacks import longest, measure, problems
from serverpy.bench.measure.scenarios.large_inputs import INPUTS
from serverpy.bench.measure.targets import sample_origin

BURNT_SECONDS = 0.05
MS = 0.001


def burn(seconds: float = BURNT_SECONDS) -> None:
    """Use the CPU for `seconds` of this thread's CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        continue


async def burning(waits: bool) -> None:
    await asyncio.sleep(0)
    burn()
    if waits:
        await asyncio.sleep(0)


async def outer(waits: bool) -> None:
    await burning(waits)


async def in_the_loop(call: Callable[[asyncio.AbstractEventLoop], object]) -> None:
    call(asyncio.get_running_loop())
    await asyncio.sleep(0.001)


def recorded(main: Callable[[], object]) -> list[Callback]:
    """Return the callbacks that use the CPU for at least 20 ms while `main` runs, without garbage collections."""
    found: list[Callback] = []
    end = record_callbacks(found.append, 0.02)
    try:
        main()
    finally:
        end()
    return [each for each in found if not each.name.startswith(COLLECTION)]


def named(name: str, callbacks: list[Callback]) -> list[Callback]:
    return [each for each in callbacks if each.name == name]


@pytest.mark.parametrize("waits", [True, False])
def test_a_task_that_uses_the_cpu_is_found_with_the_place_where_it_waits_afterwards(waits: bool) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        (found,) = named("outer", recorded(lambda: runner.run(outer(waits))))
    assert found.seconds >= BURNT_SECONDS
    assert found.at is None if not waits else found.at is not None and "__sleep0" in found.at


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(burn),
        lambda loop: loop.call_later(0, functools.partial(functools.partial(burn, BURNT_SECONDS))),
        lambda loop: loop.call_soon_threadsafe(burn),
    ],
)
def test_a_callback_that_uses_the_cpu_is_found_by_the_name_of_its_function(
    call: Callable[[asyncio.AbstractEventLoop], object],
) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        (found,) = named("burn", recorded(lambda: runner.run(in_the_loop(call))))
    assert found.at is None
    assert found.seconds >= BURNT_SECONDS


def test_the_cpu_time_of_other_threads_and_the_time_of_waiting_do_not_count() -> None:
    async def main() -> None:
        await asyncio.to_thread(burn)
        time.sleep(BURNT_SECONDS)  # noqa: ASYNC251  the callback blocks the loop on purpose

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert recorded(lambda: runner.run(main())) == []


def test_a_callback_counts_only_if_it_is_long_at_each_start() -> None:
    slow, noise = Callback(30 * MS, "slow", "a"), Callback(90 * MS, "noise")
    first = [slow, noise, Callback(2 * MS, "slow")]
    second = [Callback(3 * MS, "noise"), Callback(25 * MS, "slow", "b")]
    assert longest([first, second]) == Callback(25 * MS, "slow", "b")
    assert longest([first]) == noise
    assert longest([first, []]) is None
    assert longest([]) is None


def test_a_callback_of_more_than_20_ms_is_a_problem_that_names_the_callback() -> None:
    row = {"input": "moov", "longest_callback": 0.0301, "callback": "find", "waits_at": "a.py:1 f", "held": False}
    assert list(problems([row, {**row, "held": True}])) == ["moov: 30 ms in find, which waits at a.py:1 f"]
    assert list(problems([{**row, "waits_at": None}])) == ["moov: 30 ms in find"]


def test_a_short_run_measures_the_callbacks_of_a_real_server() -> None:
    """The test does not check the figures, because they depend on the machine: a single start may have slow moments."""
    inputs = [each for each in INPUTS if each.name == "formats"]
    with sample_origin() as origin, new_bench("quick", origin) as bench:
        found = measure(inputs, 1, bench)
    (row,) = found.rows
    assert (row["input"], row["times"], row["longest_callback"] > 0) == ("formats", 1, True)


@pytest.mark.soak
def test_no_input_keeps_the_event_loop_busy_for_more_than_20_ms() -> None:
    """A quick run would make the woven inputs smaller."""
    with sample_origin() as origin, new_bench("default", origin) as bench:
        assert measure(INPUTS, 3, bench).problems == ()
