"""Tests of the step size, which is the number of bytes that a body requests from a socket at once: a reader gets the
large step size while it reads fast and the budget has enough free bytes."""

from __future__ import annotations

from serverpy.memory.room import NO_ROOM
from serverpy.net.connection import LARGE_STEP, SMALL_STEP
from serverpy.streaming.pace import FAST_BYTES, FAST_GAP_SECONDS, Pace


class Room:
    def __init__(self, free: int) -> None:
        self.free = free

    def try_grow(self, nbytes: int) -> bool:
        if nbytes > self.free:
            return False
        self.free -= nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        self.free += nbytes


def read(pace: Pace, nbytes: int, at: float, gap: float = 0.0) -> tuple[int, float]:
    """Simulate a reader of `nbytes` bytes that takes each step `gap` seconds after the previous step. Returns the size
    of the last step in bytes, and the time of that step in seconds."""
    step = 0
    while nbytes > 0:
        at += gap
        step = pace.step(at)
        pace.hand(step, at)
        nbytes -= step
    return step, at


def test_a_fast_reader_gets_the_large_step_size_once_the_kernel_buffers_are_full() -> None:
    pace = Pace(Room(LARGE_STEP))
    assert read(pace, FAST_BYTES, 0.0)[0] == SMALL_STEP
    assert read(pace, 2 * LARGE_STEP, 0.0)[0] == LARGE_STEP


def test_a_reader_that_becomes_slow_gets_the_small_step_size_and_gives_back_the_bytes_of_its_large_step() -> None:
    room = Room(LARGE_STEP)
    pace = Pace(room)
    _, at = read(pace, FAST_BYTES + LARGE_STEP, 0.0)
    assert room.free == SMALL_STEP
    assert pace.step(at + 2 * FAST_GAP_SECONDS) == SMALL_STEP
    assert room.free == LARGE_STEP


def test_releasing_a_pace_gives_back_the_bytes_of_a_large_step_only_once() -> None:
    room = Room(LARGE_STEP)
    pace = Pace(room)
    read(pace, FAST_BYTES + LARGE_STEP, 0.0)
    pace.release()
    pace.release()
    assert room.free == LARGE_STEP


def test_a_reader_that_pauses_after_each_step_never_gets_the_large_step_size() -> None:
    pace = Pace(Room(LARGE_STEP))
    assert read(pace, 2 * FAST_BYTES, 0.0, gap=2 * FAST_GAP_SECONDS)[0] == SMALL_STEP


def test_a_reader_gets_the_small_step_size_until_the_budget_has_enough_free_bytes_for_the_large_one() -> None:
    room = Room(0)
    pace = Pace(room)
    _, at = read(pace, FAST_BYTES + LARGE_STEP, 0.0)
    assert pace.step(at) == SMALL_STEP
    room.free = LARGE_STEP
    assert pace.step(at) == LARGE_STEP
    assert read(Pace(NO_ROOM), FAST_BYTES + LARGE_STEP, 0.0)[0] == SMALL_STEP
