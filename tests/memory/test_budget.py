"""Tests of the memory budget. The budget never lends more bytes than it has, grants requests in order, and gets every
byte back."""

from __future__ import annotations

import asyncio
import gc

import pytest

from serverpy.errors import Busy, Draining, TooLarge
from serverpy.memory.budget import Budget
from serverpy.tasks import cancel, spawn
from tests.memory.budgets import admitted, assert_empty, turn


def budget(total: int = 100, streams: int = 10, wait: float = 60, waiter: int = 1) -> Budget:
    return Budget(total, streams, wait, waiter_bytes=waiter)


async def test_free_bytes_are_reserved_at_once_and_given_back_by_release() -> None:
    tested = budget()
    async with admitted(tested, 60) as reservation:
        assert (tested.used_bytes, tested.streams, reservation.nbytes) == (60, 1, 60)
    assert_empty(tested)
    assert reservation.nbytes == 0


async def test_releasing_a_reservation_twice_has_no_effect() -> None:
    tested = budget()
    first, second = await tested.reserve(10), await tested.reserve(10)
    first.release()
    first.release()
    assert (tested.used_bytes, tested.streams) == (10, 1)
    second.release()
    assert_empty(tested)


async def test_an_exception_in_the_block_of_a_reservation_releases_the_reservation() -> None:
    tested = budget()
    with pytest.raises(ZeroDivisionError):
        async with admitted(tested, 10):
            raise ZeroDivisionError
    assert_empty(tested)


@pytest.mark.parametrize("tested", [budget(total=100, streams=1), budget(total=10)])
async def test_a_request_waits_if_no_stream_slot_or_too_few_bytes_are_free(tested: Budget) -> None:
    first = await tested.reserve(8)
    second = spawn(tested.reserve(8), name="second")
    await turn()
    assert not second.done()
    assert (tested.waiting, tested.used_bytes) == (1, 9)
    first.release()
    (await second).release()
    assert_empty(tested)


async def test_a_small_request_does_not_overtake_a_large_one_in_the_queue() -> None:
    tested = budget()
    first = await tested.reserve(50)
    large = spawn(tested.reserve(80), name="large")
    await turn()
    small = spawn(tested.reserve(1), name="small")
    await turn()
    assert not large.done()
    assert not small.done()
    first.release()
    (await large).release()
    (await small).release()
    assert_empty(tested)


async def test_a_request_that_has_waited_for_wait_seconds_is_refused_as_busy() -> None:
    tested = budget(wait=0.01)
    async with admitted(tested, 100 - 1):
        with pytest.raises(Busy) as caught:
            await tested.reserve(50)
        assert caught.value.retry_after >= 1
    assert_empty(tested)


async def test_with_wait_seconds_of_0_a_request_that_must_wait_is_refused_at_once() -> None:
    tested = budget(wait=0)
    async with admitted(tested, 60) as reservation:
        with pytest.raises(Busy):
            await tested.reserve(50)
        async with admitted(tested, 20):
            with pytest.raises(Busy):
                await reservation.grow(40)
            await reservation.grow(20)
    assert_empty(tested)


async def test_as_many_requests_may_wait_as_streams_may_run_at_once() -> None:
    tested = budget(streams=2)
    running = [await tested.reserve(1) for _ in range(2)]
    queue = [spawn(tested.reserve(1), name="waits") for _ in range(2)]
    await turn()
    with pytest.raises(Busy):
        await tested.reserve(1)
    for reservation in running:
        reservation.release()
    for task in queue:
        (await task).release()
    assert_empty(tested)


async def test_waiting_requests_are_charged_and_are_refused_if_no_bytes_are_free_for_the_charge() -> None:
    tested = budget(total=100, waiter=20)
    first = await tested.reserve(50)
    queue = [spawn(tested.reserve(60), name="waits") for _ in range(2)]
    await turn()
    assert tested.used_bytes == 90
    with pytest.raises(Busy):
        await tested.reserve(1)
    first.release()
    for task in queue:
        (await task).release()
    assert_empty(tested)


async def test_the_charges_of_waiting_requests_leave_enough_bytes_for_the_first_request_in_the_queue() -> None:
    """If the charges left too few bytes for the first request in the queue while no stream is running, all requests
    would wait forever."""
    tested = budget(total=100, waiter=20)
    first = await tested.reserve(30)
    head = spawn(tested.reserve(80), name="head")
    await turn()
    second = spawn(tested.reserve(1), name="second")
    await turn()
    with pytest.raises(Busy):
        await tested.reserve(1)
    first.release()
    (await head).release()
    (await second).release()
    assert_empty(tested)


async def test_a_request_for_more_bytes_than_the_whole_budget_is_too_large() -> None:
    tested = budget(total=100)
    assert tested.fits(100)
    assert not tested.fits(101)
    with pytest.raises(TooLarge):
        await tested.reserve(101)
    async with admitted(tested, 60) as reservation:
        with pytest.raises(TooLarge):
            await reservation.grow(41)
        with pytest.raises(ValueError, match="negative"):
            await reservation.grow(-1)
    with pytest.raises(ValueError, match="negative"):
        await tested.reserve(-1)
    assert_empty(tested)


async def test_a_growing_reservation_takes_precedence_over_new_requests() -> None:
    tested = budget()
    first, second = await tested.reserve(50), await tested.reserve(40)
    newcomer = spawn(tested.reserve(30), name="newcomer")
    await turn()
    growing = spawn(first.grow(50), name="growing")
    await turn()
    second.release()
    await growing
    assert first.nbytes == 100
    # The new request is refused, because the growing reservation has taken the bytes for which the request waited.
    with pytest.raises(Busy):
        await newcomer
    first.release()
    assert_empty(tested)


async def test_waiting_requests_stay_queued_if_a_reservation_can_grow_without_the_bytes_charged_for_them() -> None:
    tested = budget()
    first = await tested.reserve(50)
    newcomer = spawn(tested.reserve(60), name="newcomer")
    await turn()
    await first.grow(49)
    assert not newcomer.done()
    first.release()
    (await newcomer).release()
    assert_empty(tested)


async def test_reservations_that_all_want_to_grow_do_not_deadlock() -> None:
    tested = budget()
    first, second = await tested.reserve(50), await tested.reserve(50)
    growing = spawn(first.grow(10), name="growing")
    await turn()
    with pytest.raises(Busy):
        await second.grow(10)
    assert second.nbytes == 50
    second.release()
    await growing
    first.release()
    assert_empty(tested)


async def test_a_deadlock_of_growing_reservations_is_also_resolved_after_a_release() -> None:
    tested = budget()
    first, second, third = await tested.reserve(45), await tested.reserve(45), await tested.reserve(10)
    growing = [spawn(reservation.grow(30), name="growing") for reservation in (first, second)]
    await turn()
    assert not any(task.done() for task in growing)
    third.release()
    with pytest.raises(Busy):
        await growing[1]
    second.release()
    await growing[0]
    first.release()
    assert_empty(tested)


async def test_growing_a_reservation_by_0_bytes_does_not_wait() -> None:
    tested = budget()
    async with admitted(tested, 50) as first, admitted(tested, 50) as second:
        growing = spawn(first.grow(10), name="growing")
        await turn()
        async with asyncio.timeout(0):
            await second.grow(0)
        await cancel(growing)
    assert_empty(tested)


async def test_a_growing_reservation_waits_at_most_wait_seconds() -> None:
    tested = budget(wait=0.01)
    async with admitted(tested, 50) as first, admitted(tested, 50):
        with pytest.raises(Busy):
            await first.grow(1)
        assert first.nbytes == 50
    assert_empty(tested)


async def test_releasing_a_reservation_while_it_grows_leaves_no_bytes_reserved() -> None:
    tested = budget()
    first, second = await tested.reserve(50), await tested.reserve(50)
    growing = spawn(first.grow(10), name="growing")
    await turn()
    with pytest.raises(RuntimeError):
        await first.grow(1)
    first.release()
    with pytest.raises(RuntimeError):
        await growing
    with pytest.raises(RuntimeError):
        await first.grow(1)
    second.release()
    assert_empty(tested)


async def test_cancelling_a_waiting_request_leaves_no_bytes_reserved_and_grants_the_next_request() -> None:
    tested = budget()
    first = await tested.reserve(50)
    large = spawn(tested.reserve(90), name="large")
    await turn()
    small = spawn(tested.reserve(20), name="small")
    await turn()
    await cancel(large)
    (await small).release()
    first.release()
    assert_empty(tested)


async def test_cancelling_a_request_just_as_it_is_granted_leaves_no_bytes_reserved() -> None:
    tested = budget()
    first = await tested.reserve(100 - 1)
    newcomer = spawn(tested.reserve(90), name="newcomer")
    await turn()
    first.release()
    newcomer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newcomer
    assert_empty(tested)


async def test_a_grow_that_is_cancelled_just_as_it_is_granted_adds_no_bytes_to_the_reservation() -> None:
    tested = budget()
    first, second = await tested.reserve(50), await tested.reserve(50)
    growing = spawn(first.grow(10), name="growing")
    await turn()
    second.release()
    growing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await growing
    assert (first.nbytes, tested.used_bytes) == (50, 50)
    first.release()
    assert_empty(tested)


async def test_the_bytes_of_a_cancelled_grow_are_returned_once_even_if_the_reservation_shrinks_to_zero() -> None:
    tested = budget(100)
    async with admitted(tested, 50) as reservation, admitted(tested, 50) as other:
        growing = spawn(reservation.grow(20), name="grow")
        await turn()
        other.shrink(30)  # this release grants the call of `grow`
        growing.cancel()
        reservation.shrink(reservation.nbytes)
        await turn()
        assert growing.cancelled()
        assert (reservation.nbytes, tested.used_bytes) == (0, 20)


async def test_cancelling_a_request_just_as_it_is_refused_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tested = budget()
    first = await tested.reserve(99)
    newcomer = spawn(tested.reserve(90), name="newcomer")
    await turn()
    tested.stop()
    newcomer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newcomer
    first.release()
    assert_empty(tested)
    gc.collect()
    assert not caplog.records


async def test_stopping_the_budget_refuses_waiting_requests_but_lets_running_streams_continue() -> None:
    tested = budget()
    first = await tested.reserve(50)
    newcomer = spawn(tested.reserve(90), name="newcomer")
    await turn()
    tested.stop()
    with pytest.raises(Draining):
        await newcomer
    with pytest.raises(Draining):
        await tested.reserve(1)
    await first.grow(10)
    idle = spawn(tested.wait_idle(), name="idle")
    await turn()
    assert not idle.done()
    first.release()
    await idle
    assert_empty(tested)


async def test_the_repr_of_a_budget_shows_its_bytes_and_streams_and_waiting_requests() -> None:
    tested = budget()
    async with admitted(tested, 60) as reservation:
        assert repr(tested) == "<Budget 60/100 bytes, 1/10 streams, 0 waiting, 0 growing>"
        assert repr(reservation) == "<Reservation 60 bytes>"
    tested.stop()
    assert repr(tested) == "<Budget 0/100 bytes, 0/10 streams, 0 waiting, 0 growing, stopped>"
    assert repr(reservation) == "<Reservation 60 bytes, released>"


async def test_try_grow_leaves_at_least_half_of_the_budget_free() -> None:
    tested = budget(total=100)
    async with admitted(tested, 20) as reservation:
        assert not reservation.try_grow(31)
        assert reservation.try_grow(30)
        assert (tested.used_bytes, reservation.nbytes) == (50, 50)
        assert not reservation.try_grow(1)
    assert_empty(tested)


async def test_bytes_given_back_by_a_stream_are_granted_to_a_waiting_request() -> None:
    tested = budget(total=100)
    async with admitted(tested, 90) as reservation:
        waiter = spawn(tested.reserve(30), name="waits")
        await turn()
        assert tested.waiting == 1
        reservation.shrink(40)
        (await waiter).release()
        assert reservation.nbytes == 50
        with pytest.raises(ValueError, match="more than it holds"):
            reservation.shrink(51)
    assert_empty(tested)
    reservation.shrink(0)
    assert_empty(tested)
