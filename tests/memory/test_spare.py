"""Tests of spare bytes of the budget: bytes that a cache keeps after its stream has ended. The budget charges such
bytes only while they are in use, and reclaims them when another request needs them."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.memory.budget import Budget
from tests.aio import eventually


def budget_of(total_bytes: int) -> Budget:
    return Budget(total_bytes, max_streams=10, wait_seconds=5.0, waiter_bytes=1)


async def test_bytes_kept_from_a_reservation_stay_charged_after_the_reservation_has_been_released() -> None:
    budget = budget_of(100)
    reservation = await budget.reserve(60)
    reservation.keep(40)
    assert (reservation.nbytes, budget.used_bytes) == (20, 60)
    reservation.release()
    assert (budget.used_bytes, budget.streams) == (40, 0)
    budget.shrink(40)
    assert budget.used_bytes == 0


async def test_bytes_charged_without_a_reservation_leave_half_of_the_budget_free() -> None:
    budget = budget_of(100)
    reservation = await budget.reserve(20)
    assert budget.try_grow(30)
    assert not budget.try_grow(1)
    reservation.release()
    assert (budget.used_bytes, budget.streams) == (30, 0)
    assert budget.try_grow(20)
    budget.shrink(50)
    assert budget.used_bytes == 0


async def test_a_reservation_cannot_keep_more_bytes_than_it_has() -> None:
    reservation = await budget_of(100).reserve(60)
    with pytest.raises(ValueError, match="cannot keep"):
        reservation.keep(61)
    reservation.release()
    with pytest.raises(ValueError, match="cannot keep"):
        reservation.keep(1)


class SpareCache:
    """Cache whose entries are spare bytes of the budget, `each` bytes per entry."""

    def __init__(self, budget: Budget, each: int) -> None:
        self.count = 0
        self.asked: list[int] = []
        self._budget = budget
        self._each = each
        budget.add_reclaimer(self._reclaim)

    async def put(self, count: int) -> None:
        reservation = await self._budget.reserve(count * self._each)
        reservation.keep(count * self._each)
        reservation.release()
        self._budget.spare(count * self._each)
        self.count += count

    def _reclaim(self, nbytes: int) -> int:
        self.asked.append(nbytes)
        gone = min(self.count, -(-nbytes // self._each))
        self.count -= gone
        return gone * self._each


async def test_spare_bytes_are_reclaimed_before_a_request_has_to_wait() -> None:
    budget = budget_of(100)
    cache = SpareCache(budget, 40)
    await cache.put(1)
    assert budget.used_bytes == 0
    first = await budget.reserve(60)
    assert cache.asked == []
    second = await budget.reserve(30)
    assert (cache.asked, cache.count, budget.used_bytes) == ([30], 0, 90)
    for reservation in (first, second):
        reservation.release()
    assert budget.used_bytes == 0


async def test_the_budget_reclaims_from_one_cache_after_the_other_until_enough_bytes_are_free() -> None:
    budget = budget_of(100)
    first, second = SpareCache(budget, 10), SpareCache(budget, 10)
    await first.put(3)
    await second.put(3)
    (await budget.reserve(60)).release()
    assert (first.count, second.count, second.asked) == (1, 3, [])
    (await budget.reserve(80)).release()
    assert (first.asked, second.asked) == ([20, 20], [10])
    assert (first.count, second.count) == (0, 2)
    whole = await budget.reserve(100)
    assert (first.count, second.count, budget.used_bytes) == (0, 0, 100)
    whole.release()


async def test_spare_bytes_that_are_in_use_again_are_not_reclaimed() -> None:
    budget = budget_of(100)
    budget.add_reclaimer(lambda nbytes: pytest.fail("nothing is spare"))
    first = await budget.reserve(40)
    first.keep(40)
    budget.spare(40)
    budget.use(40)
    waiting = asyncio.ensure_future(budget.reserve(70))
    await eventually(lambda: budget.waiting == 1)
    budget.shrink(40)
    (await waiting).release()
    first.release()


async def test_a_growing_reservation_may_take_spare_bytes() -> None:
    budget = budget_of(100)
    cache = SpareCache(budget, 50)
    await cache.put(1)
    first = await budget.reserve(10)
    await first.grow(80)
    assert (budget.used_bytes, cache.count) == (90, 0)
    first.release()
