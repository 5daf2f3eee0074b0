"""What outlives the stream that made it counts while it is used, and gives way when it is not."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.memory.budget import Budget
from tests.aio import eventually


def budget_of(total_bytes: int) -> Budget:
    return Budget(total_bytes, max_streams=10, wait_seconds=5.0, waiter_bytes=1)


async def test_kept_bytes_outlive_their_stream() -> None:
    budget = budget_of(100)
    reservation = await budget.reserve(60)
    reservation.keep(40)
    assert (reservation.nbytes, budget.used_bytes) == (20, 60)
    reservation.release()
    assert (budget.used_bytes, budget.streams) == (40, 0)
    budget.forget(40)
    assert budget.used_bytes == 0


async def test_what_no_stream_holds_alone_is_kept_while_half_stays_free() -> None:
    budget = budget_of(100)
    reservation = await budget.reserve(20)
    assert budget.try_keep(30)
    assert not budget.try_keep(1)
    reservation.release()
    assert (budget.used_bytes, budget.streams) == (30, 0)
    assert budget.try_keep(20)
    budget.forget(50)
    assert budget.used_bytes == 0


async def test_no_more_is_kept_than_is_held() -> None:
    reservation = await budget_of(100).reserve(60)
    with pytest.raises(ValueError, match="keeps"):
        reservation.keep(61)
    reservation.release()
    with pytest.raises(ValueError, match="keeps"):
        reservation.keep(1)


async def test_spare_bytes_are_asked_for_before_anyone_waits() -> None:
    budget = budget_of(100)
    asked = list[int]()

    def let_go(nbytes: int) -> int:
        asked.append(nbytes)
        return 40

    budget.reclaim = let_go
    first = await budget.reserve(40)
    first.keep(40)
    budget.spare(40)
    assert (budget.used_bytes, budget.spare_bytes) == (0, 40)
    second = await budget.reserve(60)
    assert asked == []
    third = await budget.reserve(30)
    assert (asked, budget.used_bytes, budget.spare_bytes) == ([30], 90, 0)
    for reservation in (first, second, third):
        reservation.release()
    assert budget.used_bytes == 0


async def test_bytes_in_use_again_are_not_let_go_of() -> None:
    budget = budget_of(100)
    budget.reclaim = lambda nbytes: pytest.fail("nothing is spare")
    first = await budget.reserve(40)
    first.keep(40)
    budget.spare(40)
    budget.use(40)
    waiting = asyncio.ensure_future(budget.reserve(70))
    await eventually(lambda: budget.waiting == 1)
    budget.forget(40)
    (await waiting).release()
    first.release()


async def test_whoever_grows_gets_spare_bytes_too() -> None:
    budget = budget_of(100)
    budget.reclaim = lambda nbytes: 50
    first = await budget.reserve(60)
    first.keep(50)
    budget.spare(50)
    await first.grow(80)
    assert (budget.used_bytes, budget.spare_bytes) == (90, 0)
    first.release()
