"""What tests of the budget share."""

from __future__ import annotations

import asyncio

from serverpy.memory.budget import Budget


async def turn() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def assert_empty(tested: Budget) -> None:
    assert (tested.used_bytes, tested.streams, tested.waiting) == (0, 0, 0)
