"""Tests of the ring buffer of a shared live stream: which chunks it keeps, which it drops, and how many bytes it
charges."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serverpy.streaming.ring import CHUNK_BYTES, STEP_BYTES, Ring

CHUNK = bytes(STEP_BYTES // 2 - CHUNK_BYTES)
"""A chunk of such a size that two chunks and their overhead make up one step of the ring's charge."""


@dataclass
class Purse:
    """Lender that lends at most `most` bytes in total."""

    most: int
    held: int = 0

    def try_grow(self, nbytes: int) -> bool:
        if self.held + nbytes > self.most:
            return False
        self.held += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        self.held -= nbytes
        assert self.held >= 0


def filled(ring: Ring, count: int, *, begins: tuple[int, ...] = ()) -> Ring:
    for number in range(count):
        ring.add(CHUNK, begins=number in begins)
    return ring


def test_a_ring_drops_its_oldest_chunks_beyond_its_maximum_size() -> None:
    purse = Purse(1 << 30)
    ring = filled(Ring(purse, most_bytes=2 * STEP_BYTES), 10)
    assert (ring.first, ring.end, purse.held) == (6, 10, 2 * STEP_BYTES)


def test_a_ring_keeps_its_newest_chunk_even_if_the_lender_lends_no_bytes() -> None:
    ring = filled(Ring(Purse(0)), 10)
    assert (ring.first, ring.end) == (9, 10)
    assert ring.get(9) == CHUNK


def test_the_memory_of_chunks_that_all_readers_have_read_is_given_back_to_the_lender() -> None:
    purse = Purse(1 << 30)
    ring = filled(Ring(purse), 20)
    assert purse.held == 10 * STEP_BYTES
    ring.drop_below(20)
    assert (ring.first, ring.end) == (20, 20)
    assert purse.held == STEP_BYTES
    ring.close()
    ring.close()
    assert purse.held == 0


def test_a_ring_keeps_the_latest_segment_for_readers_that_may_join() -> None:
    ring = filled(Ring(Purse(1 << 30)), 20, begins=(0, 12))
    ring.drop_below(20)
    assert (ring.first, ring.boundary) == (12, 12)


def test_no_reader_can_join_at_a_segment_that_does_not_fit_into_the_ring() -> None:
    ring = filled(Ring(Purse(2 * STEP_BYTES)), 20, begins=(12,))
    assert (ring.first, ring.boundary) == (16, None)


def test_bytes_that_a_ring_holds_in_advance_are_not_given_back_when_chunks_are_dropped() -> None:
    purse = Purse(4 * STEP_BYTES)
    ring = Ring(purse)
    assert ring.hold(3 * STEP_BYTES)
    assert not ring.hold(5 * STEP_BYTES)
    filled(ring, 20).drop_below(20)
    assert purse.held >= 3 * STEP_BYTES


@given(st.lists(st.tuples(st.integers(0, STEP_BYTES), st.booleans(), st.integers(0, 5))), st.integers(0, 10))
def test_the_chunks_in_a_ring_take_at_most_the_lent_bytes_unless_the_ring_has_only_one_chunk(
    steps: list[tuple[int, bool, int]], most_steps: int
) -> None:
    purse = Purse(most_steps * STEP_BYTES)
    ring = Ring(purse, most_bytes=6 * STEP_BYTES)
    for number, (size, begins, behind) in enumerate(steps):
        ring.add(bytes(size), begins=begins)
        assert len(ring.get(number)) == size
        costs = [len(ring.get(each)) + CHUNK_BYTES for each in range(ring.first, ring.end)]
        assert sum(costs) <= purse.held or len(costs) == 1
        assert purse.held <= 6 * STEP_BYTES
        assert ring.boundary is None or ring.first <= ring.boundary < ring.end
        ring.drop_below(number - behind)
        assert ring.end == number + 1
    ring.close()
    assert purse.held == 0
