"""Async tests without a plugin: each runs in a loop of its own, uvloop's as in production, with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(test: Callable[[], Coroutine[Any, Any, T]], *, seconds: float = 60.0) -> T:
    """Run `test` to its end. A time-out is a failure."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            try:
                return await test()
            finally:
                for _ in range(3):  # so that transports which were aborted say goodbye before the loop closes
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())


async def eventually(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Wait until `condition` holds; what it should say when it never does is the caller's assertion."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  any condition
        await asyncio.sleep(0.01)
