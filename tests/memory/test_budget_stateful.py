"""Tests that the sums in the memory budget are right after any sequence of requests, calls of `grow`, releases and
cancellations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serverpy.errors import Busy, TooLarge
from serverpy.memory.budget import Budget, Reservation
from tests.memory.budgets import assert_empty, turn

TOTAL, STREAMS, WAITER = 100, 4, 3
SIZES = st.sampled_from([0, 1, 20, 45, 60, 94, TOTAL])
PICKS = st.integers(0, STREAMS)


@dataclass(eq=False)
class Stream:
    """A task that requests a reservation of the budget, and the task of the latest call of the reservation's `grow`."""

    task: asyncio.Task[Reservation]
    growing: asyncio.Task[None] | None = None

    @property
    def reservation(self) -> Reservation | None:
        """The reservation, even if it has been released. None if the request is waiting, has failed or was
        cancelled."""
        ended = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if ended else None


class BudgetMachine(RuleBasedStateMachine):
    """State machine that requests, grows, releases and cancels reservations at random, with or without an iteration of
    the event loop between two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.tested = Budget(TOTAL, STREAMS, 3600, waiter_bytes=WAITER)
        self.known: list[Stream] = []

    @rule(nbytes=SIZES, turned=st.booleans())
    def reserve(self, nbytes: int, turned: bool) -> None:
        self.known.append(Stream(self.loop.create_task(self.tested.reserve(nbytes))))
        if turned:
            self.turn()

    @rule(pick=PICKS, nbytes=SIZES)
    def grow(self, pick: int, nbytes: int) -> None:
        idle = [stream for stream in self._running() if stream.growing is None or stream.growing.done()]
        if idle:
            stream = idle[pick % len(idle)]
            assert stream.reservation is not None
            self._check_growth(stream)
            stream.growing = self.loop.create_task(stream.reservation.grow(nbytes))

    @rule(pick=PICKS)
    def cancel_growth(self, pick: int) -> None:
        growing = [task for stream in self.known if (task := stream.growing) is not None and not task.done()]
        if growing:
            growing[pick % len(growing)].cancel()

    @rule(pick=PICKS)
    def cancel_reserve(self, pick: int) -> None:
        waiting = [stream.task for stream in self.known if not stream.task.done()]
        if waiting:
            waiting[pick % len(waiting)].cancel()

    @rule(pick=PICKS, nbytes=SIZES)
    def try_grow(self, pick: int, nbytes: int) -> None:
        running = self._running()
        if running:
            reservation = running[pick % len(running)].reservation
            assert reservation is not None
            before = reservation.nbytes
            grown = reservation.try_grow(nbytes)
            assert reservation.nbytes == before + (nbytes if grown else 0)
            assert not grown or self.tested.used_bytes <= TOTAL // 2

    @rule(pick=PICKS)
    def shrink(self, pick: int) -> None:
        running = self._running()
        if running:
            reservation = running[pick % len(running)].reservation
            assert reservation is not None
            before = reservation.nbytes
            reservation.shrink(before // 2)
            assert reservation.nbytes == before - before // 2

    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        running = self._running()
        if running:
            reservation = running[pick % len(running)].reservation
            assert reservation is not None
            reservation.release()

    @rule()
    def turn(self) -> None:
        self.runner.run(turn())

    @invariant()
    def sums_never_exceed(self) -> None:
        assert 0 <= self.tested.used_bytes <= TOTAL
        assert 0 <= self.tested.streams <= STREAMS
        assert 0 <= self.tested.waiting <= STREAMS
        assert sum(stream.reservation.nbytes for stream in self.known if stream.reservation) <= self.tested.used_bytes

    @invariant()
    def nobody_overtakes(self) -> None:
        """Check that the budget has granted requests in the order in which they were made, which is that of `known`."""
        waits = False
        for stream in self.known:
            assert not (waits and stream.reservation is not None), "overtaken in the queue"
            waits = waits or not stream.task.done()

    def teardown(self) -> None:
        try:
            self.runner.run(self._leave())
            assert_empty(self.tested)
        finally:
            self.runner.close()

    async def _leave(self) -> None:
        """In each iteration of the event loop, release all existing reservations, until none are left. Checks that no
        request is waiting at the end."""
        await turn()
        while running := self._running():
            for stream in running:
                assert stream.reservation is not None
                stream.reservation.release()
            await turn()
        for stream in self.known:
            assert stream.task.done(), "a request waits in vain"
            self._check_growth(stream)

    def _running(self) -> list[Stream]:
        """Return the streams whose reservation has not been released. Reads a private attribute, because the public
        attributes of a released reservation equal those of a reservation of 0 bytes."""
        return [stream for stream in self.known if stream.reservation is not None and not stream.reservation._released]

    def _check_growth(self, stream: Stream) -> None:
        """Check that a call of `grow` has succeeded, been cancelled, or raised one of the allowed exceptions."""
        if stream.growing is not None and stream.growing.done() and not stream.growing.cancelled():
            assert isinstance(stream.growing.exception(), Busy | TooLarge | RuntimeError | None)


BudgetMachine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase
