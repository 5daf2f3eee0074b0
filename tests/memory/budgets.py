"""Helpers for tests of the memory budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serverpy.memory.budget import Budget, Reservation


@asynccontextmanager
async def admitted(tested: Budget, nbytes: int) -> AsyncIterator[Reservation]:
    """Reserve bytes of the budget. Yields the reservation, and releases it at the end of the block."""
    reservation = await tested.reserve(nbytes)
    try:
        yield reservation
    finally:
        reservation.release()


async def turn() -> None:
    """Wait for some iterations of the event loop, so that every task that is ready can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def assert_empty(tested: Budget) -> None:
    assert (tested.used_bytes, tested.streams, tested.waiting) == (0, 0, 0)
