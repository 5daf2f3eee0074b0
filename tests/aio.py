"""Runner for async tests, and helpers that wait for a condition, so that no test sleeps for a guessed time.

`pytest_pyfunc_call` in tests/conftest.py runs each `async def test_…` with `run`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

TEST_SECONDS = 240.0
"""Timeout of a test in seconds. This timeout is shorter than that of pytest, so that a test that hangs is cancelled and
closes its connections and files."""
PATIENCE_SECONDS = 30.0
"""Default number of seconds to wait for a condition: enough for a slow, busy machine."""


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `test` in a new uvloop event loop, as in production. Raises TimeoutError if the test takes longer than
    TEST_SECONDS."""

    async def limited() -> T:
        async with asyncio.timeout(TEST_SECONDS):
            try:
                return await test()
            finally:
                for _ in range(3):  # aborted transports call connection_lost in these iterations of the event loop
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())


async def eventually(
    condition: Callable[[], object], what: Callable[[], object] | None = None, *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until `condition` holds. Raises AssertionError if `condition` still does not hold after `seconds`. The
    message of the error is `what()`, or the source of `condition` if `what` is None."""
    for pause in _pauses(condition, what, seconds):
        await asyncio.sleep(pause)


def wait_for(
    condition: Callable[[], object], what: Callable[[], object] | None = None, *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until `condition` holds, without an event loop. Raises AssertionError as `eventually` does."""
    for pause in _pauses(condition, what, seconds):
        time.sleep(pause)


async def stays(condition: Callable[[], object], *, seconds: float) -> None:
    """Check `condition` repeatedly for `seconds`. Raises AssertionError as soon as the condition fails. Use this
    function only to test that something does not happen, because a passing test takes all of `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert condition(), f"no longer: {_source(condition)}"
        await asyncio.sleep(0.01)


def _pauses(condition: Callable[[], object], what: Callable[[], object] | None, seconds: float) -> Iterator[float]:
    """Yield the pause in seconds before each further check of a condition: an eighth of the time waited so far, but at
    least 2 ms and at most 100 ms."""
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        assert waited < seconds, f"not within {seconds} s: {what() if what else _source(condition)}"
        yield min(max(waited / 8, 0.002), 0.1)


def _source(condition: Callable[[], object]) -> str:
    return " ".join(inspect.getsource(condition).split())
