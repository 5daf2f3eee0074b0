"""Tests of rooms. A room holds bytes that a budget, a reservation or another room lends. It gives its bytes back only
once, and every lender counts the sum of the bytes that it has lent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serverpy.errors import Busy, TooLarge
from serverpy.memory.budget import Budget, Reservation
from serverpy.memory.room import NO_ROOM, Room
from serverpy.tasks import cancel, spawn
from tests.memory.budgets import admitted, assert_empty, turn

TOTAL, RESERVED, STREAMS = 100, 10, 2
SIZES = st.sampled_from([0, 1, 7, 20, 45, TOTAL])
PICKS = st.integers(0, 7)


def budget() -> Budget:
    return Budget(TOTAL, max_streams=STREAMS, wait_seconds=3600)


def test_a_room_charges_only_the_bytes_beyond_its_covered_bytes_and_grows_in_steps() -> None:
    tested = budget()
    room = Room(tested, covered_bytes=8, step_bytes=10)
    assert room.try_hold(8)
    assert (room.nbytes, tested.used_bytes) == (8, 0)
    assert room.try_hold(9)
    assert (room.nbytes, tested.used_bytes) == (18, 10)
    assert room.try_hold(40)
    assert (room.nbytes, tested.used_bytes) == (40, 32)
    assert not room.try_hold(60)
    assert repr(room) == f"<Room 40 bytes (8 covered) of {tested!r}>"
    room.release()
    assert (room.nbytes, tested.used_bytes) == (0, 0)


async def test_a_released_room_neither_grows_nor_gives_its_bytes_back_again() -> None:
    tested = budget()
    async with admitted(tested, RESERVED) as reservation:
        room, other = Room(reservation), Room(reservation)
        assert room.try_grow(5)
        assert other.try_grow(7)
        room.release()
        room.release()
        room.shrink(5)
        assert not room.try_grow(1)
        with pytest.raises(RuntimeError, match="released"):
            await room.grow(1)
        assert (repr(room), reservation.nbytes) == (f"<Room 0 bytes, released of {reservation!r}>", RESERVED + 7)


def test_releasing_a_lender_also_releases_its_rooms() -> None:
    tested = budget()
    whole = Room(tested)
    parts = Room(whole), Room(whole)
    assert all(part.try_grow(10) for part in parts)
    parts[0].release()
    assert (whole.nbytes, tested.used_bytes) == (10, 10)
    whole.release()
    parts[1].shrink(4)
    parts[1].release()
    assert tested.used_bytes == 0


async def test_a_room_moves_to_another_lender_with_all_its_bytes_or_not_at_all() -> None:
    tested = budget()
    async with admitted(tested, RESERVED) as reservation:
        room = Room(reservation, covered_bytes=5)
        assert room.try_grow(20)
        assert not room.move_to(NO_ROOM)
        assert (room.nbytes, reservation.nbytes) == (25, RESERVED + 20)
        assert room.move_to(tested)
        assert (room.nbytes, reservation.nbytes, tested.used_bytes) == (25, RESERVED, RESERVED + 20)
        # the room has only covered bytes, so none has to be charged to the new lender
        assert Room(reservation, covered_bytes=5).move_to(NO_ROOM)
        room.release()


async def test_bytes_that_a_room_leaves_to_its_lender_stay_charged_to_the_lender() -> None:
    tested = budget()
    reservation = await tested.reserve(RESERVED)
    room = Room(reservation)
    await room.settle(30)
    await room.settle(20)
    reservation.keep(room.leave_to_lender())
    room.release()
    assert (room.nbytes, reservation.nbytes, tested.used_bytes) == (0, RESERVED, RESERVED + 20)
    reservation.release()
    tested.shrink(20)
    assert_empty(tested)


async def test_concurrent_calls_of_grow_of_a_room_run_one_after_the_other() -> None:
    tested = budget()
    async with admitted(tested, RESERVED) as reservation:
        room = Room(reservation)
        kept = await tested.reserve(60)
        growing = [spawn(room.grow(40), name="growing") for _ in range(2)]
        await turn()
        kept.release()
        await asyncio.gather(*growing)
        assert (room.nbytes, reservation.nbytes) == (80, RESERVED + 80)
        room.release()
        assert reservation.nbytes == RESERVED


@pytest.mark.parametrize("turns", range(4))
async def test_cancelling_a_call_of_grow_of_a_room_leaves_no_bytes_charged(turns: int) -> None:
    """The test cancels a call of `grow` of a room in different iterations of the event loop, even in the iteration that
    grants the bytes."""
    tested = budget()
    async with admitted(tested, RESERVED) as reservation:
        room = Room(reservation)
        other = await tested.reserve(80)
        growing = spawn(Room(room).grow(40), name="growing")
        await turn()
        other.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        was_late = growing.done()
        await cancel(growing)
        held = 40 if was_late else 0
        assert (room.nbytes, reservation.nbytes, tested.used_bytes) == (held, RESERVED + held, RESERVED + held)


async def test_a_room_that_is_released_while_it_grows_holds_no_bytes() -> None:
    tested = budget()
    async with admitted(tested, RESERVED) as reservation:
        room = Room(reservation)
        other = await tested.reserve(80)
        growing = spawn(room.grow(40), name="growing")
        await turn()
        with pytest.raises(RuntimeError, match="grows"):
            room.move_to(tested)
        room.release()
        other.release()
        with pytest.raises(RuntimeError, match="while it grew"):
            await growing
        assert (room.nbytes, tested.used_bytes) == (0, RESERVED)


async def test_a_room_whose_lender_is_the_budget_cannot_grow_by_waiting() -> None:
    with pytest.raises(TypeError):
        await Room(budget()).grow(1)


def test_a_room_cannot_give_back_more_bytes_than_were_charged() -> None:
    room = Room(budget(), covered_bytes=10)
    with pytest.raises(ValueError, match="charged"):
        room.shrink(1)


@dataclass(eq=False)
class Held:
    """A room, its lender, and the tasks that grow it."""

    room: Room
    lender: Budget | Reservation | Held
    growths: list[asyncio.Task[None]]
    is_released: bool = False


class RoomMachine(RuleBasedStateMachine):
    """State machine that makes, grows, moves and releases rooms at random, and cancels their calls of `grow`. The
    lenders are a budget, its reservations, and other rooms."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.budget = budget()
        self.streams = [self.runner.run(self.budget.reserve(RESERVED)) for _ in range(STREAMS)]
        self.known: list[Held] = []

    @rule(pick=PICKS)
    def open_room(self, pick: int) -> None:
        whole = [held for held in self.known if all(growth.done() for growth in held.growths)]
        lenders: list[Budget | Reservation | Held] = [self.budget, *self.streams, *whole]
        lender = lenders[pick % len(lenders)]
        self.known.append(Held(Room(lender.room if isinstance(lender, Held) else lender), lender, []))

    @rule(pick=PICKS, nbytes=SIZES, at_least=st.booleans())
    def grow_at_once(self, pick: int, nbytes: int, at_least: bool) -> None:
        if held := self._pick(pick):
            before = held.room.nbytes
            if at_least:
                holds = held.room.try_hold(nbytes)
                assert holds == (held.room.nbytes >= nbytes)
            else:
                grown = held.room.try_grow(nbytes)
                assert held.room.nbytes == before + (nbytes if grown else 0)

    @rule(pick=PICKS, nbytes=SIZES, settles=st.booleans(), turned=st.booleans())
    def grow(self, pick: int, nbytes: int, settles: bool, turned: bool) -> None:
        if held := self._pick(pick):
            has_parts = any(each.lender is held for each in self.known)
            growth = held.room.settle(nbytes) if settles and not has_parts else held.room.grow(nbytes)
            held.growths.append(self.runner.get_loop().create_task(growth))
            if turned:
                self.turn()

    @rule(pick=PICKS)
    def cancel_growth(self, pick: int) -> None:
        growing = [growth for held in self.known for growth in held.growths if not growth.done()]
        if growing:
            growing[pick % len(growing)].cancel()

    @rule(pick=PICKS)
    def shrink(self, pick: int) -> None:
        if (held := self._pick(pick)) and not held.is_released:
            held.room.shrink((held.room.nbytes - self._lent_by(held)) // 2)

    @rule(pick=PICKS, to=PICKS)
    def move(self, pick: int, to: int) -> None:
        if (held := self._pick(pick)) and not held.is_released and not self._is_growing():
            lenders: list[Budget | Reservation] = [self.budget, *self.streams]
            lender = lenders[to % len(lenders)]
            if held.room.move_to(lender):
                held.lender = lender

    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        if held := self._pick(pick):
            held.room.release()
            held.is_released = True

    @rule()
    def turn(self) -> None:
        self.runner.run(turn())

    @invariant()
    def every_lender_counts_the_sum_of_its_rooms(self) -> None:
        if self._is_growing():
            return  # the lender counts granted bytes one iteration of the event loop before the room counts them
        for stream in self.streams:
            assert stream.nbytes == RESERVED + self._lent_by(stream)
        for held in self.known:
            assert held.is_released or held.room.nbytes >= self._lent_by(held)
        assert self.budget.used_bytes == sum(each.nbytes for each in self.streams) + self._lent_by(self.budget)

    def teardown(self) -> None:
        try:
            self.runner.run(self._leave())
            assert_empty(self.budget)
        finally:
            self.runner.close()

    async def _leave(self) -> None:
        growths = [growth for held in self.known for growth in held.growths]
        for growth in growths:
            growth.cancel()
        for error in await asyncio.gather(*growths, return_exceptions=True):
            assert isinstance(error, asyncio.CancelledError | Busy | TooLarge | RuntimeError | TypeError | None)
        for held in self.known:
            held.room.release()
        for stream in self.streams:
            assert stream.nbytes == RESERVED
            stream.release()

    def _pick(self, pick: int) -> Held | None:
        return self.known[pick % len(self.known)] if self.known else None

    def _is_growing(self) -> bool:
        return any(not growth.done() for held in self.known for growth in held.growths)

    def _lent_by(self, lender: Budget | Reservation | Held) -> int:
        """Return the number of bytes in the rooms of `lender`."""
        return sum(held.room.nbytes for held in self.known if held.lender is lender)


RoomMachine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRoomMachine = RoomMachine.TestCase
