"""The budget never gives more than it has, gives in order, and gets everything back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from serverpy.errors import Busy, Draining, TooLarge
from serverpy.memory.budget import Budget, Reservation
from serverpy.tasks import cancel, spawn

Body = Callable[[], Awaitable[None]]


def run(body: Body) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await body()

    asyncio.run(limited())


def budget(total: int = 100, streams: int = 10, wait: float = 60, waiter: int = 1) -> Budget:
    return Budget(total, streams, wait, waiter_bytes=waiter)


async def turn() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def assert_empty(tested: Budget) -> None:
    assert (tested.used_bytes, tested.streams, tested.waiting) == (0, 0, 0)


def test_what_is_free_is_given_at_once_and_comes_back() -> None:
    async def body() -> None:
        tested = budget()
        async with tested.admit(60) as reservation:
            assert (tested.used_bytes, tested.streams, reservation.nbytes) == (60, 1, 60)
        assert_empty(tested)
        assert reservation.nbytes == 0

    run(body)


def test_release_again_is_nothing() -> None:
    async def body() -> None:
        tested = budget()
        first, second = await tested.reserve(10), await tested.reserve(10)
        first.release()
        first.release()
        assert (tested.used_bytes, tested.streams) == (10, 1)
        second.release()
        assert_empty(tested)

    run(body)


def test_a_failing_block_gives_back() -> None:
    async def body() -> None:
        tested = budget()
        with pytest.raises(ZeroDivisionError):
            async with tested.admit(10):
                raise ZeroDivisionError
        assert_empty(tested)

    run(body)


@pytest.mark.parametrize("tested", [budget(total=100, streams=1), budget(total=10)])
def test_a_newcomer_waits_for_a_place_and_for_bytes(tested: Budget) -> None:
    async def body() -> None:
        first = await tested.reserve(8)
        second = spawn(tested.reserve(8), name="second")
        await turn()
        assert not second.done()
        assert (tested.waiting, tested.used_bytes) == (1, 9)
        first.release()
        (await second).release()
        assert_empty(tested)

    run(body)


def test_a_small_newcomer_does_not_overtake_a_large_one() -> None:
    async def body() -> None:
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

    run(body)


def test_after_the_wait_the_server_is_busy() -> None:
    async def body() -> None:
        tested = budget(wait=0.01)
        async with tested.admit(100 - 1):
            with pytest.raises(Busy) as caught:
                await tested.reserve(50)
            assert caught.value.retry_after >= 1
        assert_empty(tested)

    run(body)


def test_a_wait_of_nothing_refuses_at_once() -> None:
    async def body() -> None:
        tested = budget(wait=0)
        async with tested.admit(60) as reservation:
            with pytest.raises(Busy):
                await tested.reserve(50)
            async with tested.admit(20):
                with pytest.raises(Busy):
                    await reservation.grow(40)
                await reservation.grow(20)
        assert_empty(tested)

    run(body)


def test_the_line_is_as_long_as_the_streams_may_be_many() -> None:
    async def body() -> None:
        tested = budget(streams=2)
        running = [await tested.reserve(1) for _ in range(2)]
        line = [spawn(tested.reserve(1), name="waits") for _ in range(2)]
        await turn()
        with pytest.raises(Busy):
            await tested.reserve(1)
        for reservation in running:
            reservation.release()
        for task in line:
            (await task).release()
        assert_empty(tested)

    run(body)


def test_the_line_is_charged_and_ends_where_the_bytes_do() -> None:
    async def body() -> None:
        tested = budget(total=100, waiter=20)
        first = await tested.reserve(50)
        line = [spawn(tested.reserve(60), name="waits") for _ in range(2)]
        await turn()
        assert tested.used_bytes == 90
        with pytest.raises(Busy):
            await tested.reserve(1)
        first.release()
        for task in line:
            (await task).release()
        assert_empty(tested)

    run(body)


def test_the_line_never_keeps_out_who_stands_in_it() -> None:
    """Charges that left no room for the first in the line, with nothing running, would let all wait in vain."""

    async def body() -> None:
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

    run(body)


def test_what_can_never_fit_is_told_so() -> None:
    async def body() -> None:
        tested = budget(total=100)
        assert tested.fits(100)
        assert not tested.fits(101)
        with pytest.raises(TooLarge):
            await tested.reserve(101)
        async with tested.admit(60) as reservation:
            with pytest.raises(TooLarge):
                await reservation.grow(41)
            with pytest.raises(ValueError, match="negative"):
                await reservation.grow(-1)
        with pytest.raises(ValueError, match="negative"):
            await tested.reserve(-1)
        assert_empty(tested)

    run(body)


def test_a_grower_goes_before_newcomers() -> None:
    async def body() -> None:
        tested = budget()
        first, second = await tested.reserve(50), await tested.reserve(40)
        newcomer = spawn(tested.reserve(30), name="newcomer")
        await turn()
        growing = spawn(first.grow(50), name="growing")
        await turn()
        second.release()
        await growing
        assert first.nbytes == 100
        # The newcomer's charge stood in the way of a stream that runs: its wait is over.
        with pytest.raises(Busy):
            await newcomer
        first.release()
        assert_empty(tested)

    run(body)


def test_newcomers_stay_in_line_while_the_grower_fits_beside_them() -> None:
    async def body() -> None:
        tested = budget()
        first = await tested.reserve(50)
        newcomer = spawn(tested.reserve(60), name="newcomer")
        await turn()
        await first.grow(49)
        assert not newcomer.done()
        first.release()
        (await newcomer).release()
        assert_empty(tested)

    run(body)


def test_streams_that_all_want_to_grow_do_not_wait_for_each_other() -> None:
    async def body() -> None:
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

    run(body)


def test_growers_stuck_by_a_release_are_found_too() -> None:
    async def body() -> None:
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

    run(body)


def test_a_grower_waits_no_longer_than_a_newcomer() -> None:
    async def body() -> None:
        tested = budget(wait=0.01)
        async with tested.admit(50) as first, tested.admit(50):
            with pytest.raises(Busy):
                await first.grow(1)
            assert first.nbytes == 50
        assert_empty(tested)

    run(body)


def test_released_while_it_grows_leaves_nothing() -> None:
    async def body() -> None:
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

    run(body)


def test_cancelled_while_it_waits_leaves_nothing_and_lets_the_next_through() -> None:
    async def body() -> None:
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

    run(body)


def test_cancelled_in_the_turn_of_its_grant_leaves_nothing() -> None:
    async def body() -> None:
        tested = budget()
        first = await tested.reserve(100 - 1)
        newcomer = spawn(tested.reserve(90), name="newcomer")
        await turn()
        first.release()
        newcomer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await newcomer
        assert_empty(tested)

    run(body)


def test_a_growers_cancel_in_the_turn_of_its_grant_leaves_what_it_held() -> None:
    async def body() -> None:
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

    run(body)


def test_cancelled_in_the_turn_of_its_refusal_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
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

    run(body)
    gc.collect()
    assert not caplog.records


def test_stop_ends_the_line_and_lets_streams_run() -> None:
    async def body() -> None:
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

    run(body)


def test_its_repr_tells() -> None:
    async def body() -> None:
        tested = budget()
        async with tested.admit(60) as reservation:
            assert repr(tested) == "<Budget 60/100 bytes, 1/10 streams, 0 waiting, 0 growing>"
            assert repr(reservation) == "<Reservation 60 bytes>"
        tested.stop()
        assert repr(tested) == "<Budget 0/100 bytes, 0/10 streams, 0 waiting, 0 growing, stopped>"
        assert repr(reservation) == "<Reservation 60 bytes, released>"

    run(body)


TOTAL, STREAMS, WAITER = 100, 4, 3


@dataclass(eq=False)
class Stream:
    """A client: asks for a reservation, may grow it, and gives it back however the asking ended."""

    number: int
    task: asyncio.Task[Reservation]
    growing: asyncio.Task[None] | None = None
    cancelled: bool = False

    @property
    def reservation(self) -> Reservation | None:
        ended = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if ended else None


@dataclass
class Order:
    """Who was admitted, in order, out of those who had to wait."""

    numbers: list[int] = field(default_factory=list)


class BudgetMachine(RuleBasedStateMachine):
    """Random asking, growing, releasing, cancelling and turning of the loop."""

    streams = Bundle("streams")

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.tested = Budget(TOTAL, STREAMS, 3600, waiter_bytes=WAITER)
        self.known: list[Stream] = []
        self.order = Order()

    @rule(target=streams, nbytes=st.integers(0, TOTAL))
    def ask(self, nbytes: int) -> Stream:
        stream = Stream(len(self.known), self.loop.create_task(self._asking(len(self.known), nbytes)))
        self.known.append(stream)
        return stream

    @rule(stream=streams, nbytes=st.integers(0, TOTAL))
    def grow(self, stream: Stream, nbytes: int) -> None:
        idle = stream.growing is None or stream.growing.done()
        if stream.reservation is not None and stream.reservation in self._held() and idle:
            self._forget(stream)
            stream.growing = self.loop.create_task(stream.reservation.grow(nbytes))

    @rule(stream=streams)
    def cancel_growth(self, stream: Stream) -> None:
        if stream.growing is not None:
            stream.growing.cancel()

    @rule(target=streams, stream=consumes(streams))
    def cancel_asking(self, stream: Stream) -> object:
        stream.cancelled = True
        stream.task.cancel()
        return stream if stream.reservation is not None else multiple()

    @rule(stream=streams)
    def release(self, stream: Stream) -> None:
        if stream.reservation is not None:
            stream.reservation.release()

    @rule()
    def turn(self) -> None:
        self.runner.run(turn())

    @invariant()
    def sums_never_exceed(self) -> None:
        if not hasattr(self, "tested"):
            return
        assert 0 <= self.tested.used_bytes <= TOTAL
        assert 0 <= self.tested.streams <= STREAMS
        assert 0 <= self.tested.waiting <= STREAMS
        assert sum(reservation.nbytes for reservation in self._held()) <= self.tested.used_bytes

    @invariant()
    def those_who_wait_are_admitted_in_order(self) -> None:
        if hasattr(self, "order"):
            assert self.order.numbers == sorted(self.order.numbers)

    def teardown(self) -> None:
        if not hasattr(self, "tested"):
            return
        self.runner.run(self._leave())
        assert_empty(self.tested)
        self.runner.close()

    async def _asking(self, number: int, nbytes: int) -> Reservation:
        reservation = await self.tested.reserve(nbytes)
        self.order.numbers.append(number)
        return reservation

    async def _leave(self) -> None:
        """Everybody gives back what they hold, turn by turn: nobody may be left waiting."""
        while True:
            await turn()
            held = list(self._held())
            if not held:
                break
            for reservation in held:
                reservation.release()
        for stream in self.known:
            assert stream.task.done(), "somebody waits in vain"
            self._forget(stream)

    def _held(self) -> Iterator[Reservation]:
        for stream in self.known:
            if stream.reservation is not None and not stream.reservation._released:
                yield stream.reservation

    def _forget(self, stream: Stream) -> None:
        """Take note of how the growing ended; all ways are allowed but an unknown error."""
        if stream.growing is not None and stream.growing.done() and not stream.growing.cancelled():
            assert isinstance(stream.growing.exception(), Busy | TooLarge | RuntimeError | None)


BudgetMachine.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase
