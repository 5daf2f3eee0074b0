"""Tests of the fan-out of one upstream to many readers: which bytes each reader gets, and when the upstream is
closed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.memory.budget import Budget
from serverpy.memory.room import Lender
from serverpy.net.http1 import Headers
from serverpy.streaming.broadcast import JOIN_BYTES, Reader, TooSlow
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.ring import RING_BYTES
from serverpy.streaming.segments.segment import Segment
from serverpy.tasks import cancel, spawn
from tests.aio import PATIENCE_SECONDS, eventually, stays
from tests.opening import rest_of

KEY = "a page"
CHUNK = bytes(32 * 1024)


@dataclass
class Spring:
    """Upstream that returns the items that the test adds by `pour`: chunks of segments, an error, or None for the end
    of the stream."""

    segment: Segment | None = None
    headers: Headers = field(default_factory=lambda: Headers(()))
    connect_seconds: float = 0.5
    reads: int = 0
    closings: int = 0
    _drops: asyncio.Queue[tuple[bytes, Segment] | Exception | None] = field(default_factory=asyncio.Queue)

    def pour(self, segment: Segment, *chunks: bytes) -> None:
        for chunk in chunks:
            self._drops.put_nowait((chunk, segment))

    def end(self, error: Exception | None = None) -> None:
        self._drops.put_nowait(error)

    async def read(self) -> bytes:
        self.reads += 1
        drop = await self._drops.get()
        if isinstance(drop, Exception):
            raise drop
        if drop is None:
            return b""
        self.segment = drop[1]
        return drop[0]

    def move_to(self, lender: Lender) -> bool:
        return True

    async def aclose(self) -> None:
        self.closings += 1


def segment(number: int, *, initial: bool = False, duration: float | None = None) -> Segment:
    return Segment(url=f"http://media.example/{number}.ts", number=number, initial=initial, duration=duration)


def budget_of(nbytes: int = 64 << 20) -> Budget:
    return Budget(nbytes, max_streams=10, wait_seconds=30.0)


def shared(fanout: Fanout, spring: Spring) -> Reader:
    reader = fanout.share(KEY, spring)
    assert reader is not None
    return reader


def joined(fanout: Fanout) -> Reader:
    reader = fanout.join(KEY)
    assert reader is not None
    return reader


async def read_slowly(reader: Reader, seconds: float) -> int:
    """Read a stream to its end. Like a slow reader, sleep after each chunk. Returns the number of bytes."""
    count = 0
    while chunk := await reader.read():
        count += len(chunk)
        await asyncio.sleep(seconds)
    return count


async def test_all_readers_get_the_same_bytes_from_one_read_of_the_upstream() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    readers = [shared(fanout, spring), *(joined(fanout) for _ in range(4))]
    drains = [spawn(rest_of(reader), name="reader") for reader in readers]
    spring.pour(segment(1), b"a", b"b")
    spring.pour(segment(2), b"c")
    spring.end()
    assert {await drain for drain in drains} == {b"abc"}
    assert (spring.reads, fanout.upstreams) == (4, 0)
    for reader in readers:
        await reader.aclose()
    assert spring.closings >= 1


async def test_the_upstream_is_read_only_when_a_reader_needs_more_bytes() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    reader = shared(fanout, spring)
    spring.pour(segment(1), b"a", b"b", b"c")
    assert await reader.read() == b"a"
    await stays(lambda: spring.reads == 1, seconds=0.05)
    await reader.aclose()


async def test_a_reader_that_joins_gets_the_initialization_section_and_then_the_latest_segment() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    first = shared(fanout, spring)
    spring.pour(segment(1, initial=True), b"i", b"j")
    spring.pour(segment(1), b"a", b"b")
    spring.pour(segment(2), b"c", b"d")
    assert [await first.read() for _ in range(5)] == [b"i", b"j", b"a", b"b", b"c"]
    second = joined(fanout)
    assert (first.connect_seconds, second.connect_seconds) == (0.5, 0.0)
    spring.end()
    assert await rest_of(second) == b"ijcd"
    assert await rest_of(first) == b"d"
    await first.aclose()
    await second.aclose()


async def test_a_reader_that_joins_begins_with_the_next_segment_if_the_latest_segment_exceeds_the_ring_buffer() -> None:
    """The ring buffer has 8 MiB, and the latest segment is larger."""
    fanout, spring = Fanout(budget_of()), Spring()
    first = shared(fanout, spring)
    count = RING_BYTES // len(CHUNK) + 1
    spring.pour(segment(1), *[CHUNK] * count)
    for _ in range(count):
        await first.read()
    second = joined(fanout)
    spring.pour(segment(1), b"more")
    spring.pour(segment(2), b"next")
    spring.end()
    assert await rest_of(second) == b"next"
    assert await rest_of(first) == b"morenext"
    await first.aclose()
    await second.aclose()


async def test_a_new_initialization_section_reaches_every_reader_once_before_its_segments() -> None:
    """There are four readers. When the second initialization section arrives, the first reader has read everything
    before it, and the second reader has read nothing. The third reader joins while the section arrives, and the fourth
    reader joins afterwards."""
    budget = budget_of()
    fanout, spring = Fanout(budget), Spring()
    first = shared(fanout, spring)
    spring.pour(segment(1, initial=True), b"i")
    spring.pour(segment(1), b"a")
    spring.pour(segment(2), b"b")
    assert [await first.read() for _ in range(3)] == [b"i", b"a", b"b"]
    idle = joined(fanout)
    spring.pour(segment(3, initial=True), b"j", b"k")
    assert await first.read() == b"j"
    between = joined(fanout)
    assert await first.read() == b"k"
    spring.pour(segment(3), b"c")
    assert await first.read() == b"c"
    after = joined(fanout)
    spring.pour(segment(4), b"d")
    spring.end()
    assert [await rest_of(each) for each in (first, idle, between, after)] == [b"d", b"ibjkcd", b"jkd", b"jkcd"]
    for each in (first, idle, between, after):
        await each.aclose()
    assert budget.used_bytes == 0


async def test_a_reader_that_waits_for_the_next_segment_first_gets_a_new_initialization_section() -> None:
    """The reader has read the first initialization section. The current segment is too large for the ring buffer, so
    that the reader must wait for the next segment."""
    fanout, spring = Fanout(budget_of()), Spring()
    first = shared(fanout, spring)
    count = RING_BYTES // len(CHUNK) + 1
    spring.pour(segment(1, initial=True), b"i")
    spring.pour(segment(1), *[CHUNK] * count)
    for _ in range(count + 1):
        await first.read()
    second = joined(fanout)
    assert await second.read() == b"i"
    spring.pour(segment(2, initial=True), b"j")
    spring.pour(segment(2), b"next")
    spring.end()
    assert await rest_of(first) == await rest_of(second) == b"jnext"
    await first.aclose()
    await second.aclose()


async def test_a_reader_that_falls_behind_is_cut_while_the_other_readers_get_every_byte() -> None:
    budget = budget_of()
    fanout, spring = Fanout(budget), Spring()
    first, slow = shared(fanout, spring), joined(fanout)
    lost: list[Reader] = []
    slow.when_lost(lambda: lost.append(slow))
    count = 2 * RING_BYTES // len(CHUNK)
    spring.pour(segment(1), *[CHUNK] * count)
    spring.end()
    assert len(await rest_of(first)) == count * len(CHUNK)
    assert budget.used_bytes <= RING_BYTES
    assert (lost, fanout.cuts) == ([slow], 1)
    with pytest.raises(TooSlow):
        await slow.read()
    await first.aclose()
    await slow.aclose()
    assert budget.used_bytes == 0


async def test_the_fan_out_waits_for_a_short_time_for_a_slow_reader_so_that_it_need_not_cut_the_reader() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    first, slow = shared(fanout, spring), joined(fanout)
    count = 3 * RING_BYTES // len(CHUNK)
    spring.pour(segment(1, duration=60.0), *[CHUNK] * count)
    spring.end()
    reading = spawn(read_slowly(slow, 0.001), name="slow")
    assert len(await rest_of(first)) == count * len(CHUNK)
    assert await reading == count * len(CHUNK)
    assert fanout.cuts == 0
    await first.aclose()
    await slow.aclose()


async def test_the_fan_out_waits_for_a_slow_reader_for_at_most_half_the_duration_of_a_segment() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    first, slow = shared(fanout, spring), joined(fanout)
    count = 2 * RING_BYTES // len(CHUNK)
    spring.pour(segment(1, duration=0.4), *[CHUNK] * count)
    spring.end()
    reading = spawn(read_slowly(slow, 0.1), name="slow")
    assert len(await rest_of(first)) == count * len(CHUNK)
    with pytest.raises(TooSlow):
        await reading
    await first.aclose()
    await slow.aclose()


async def test_readers_get_an_upstream_error_only_after_all_bytes_that_precede_the_error() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    first, second = shared(fanout, spring), joined(fanout)
    spring.pour(segment(1), b"a", b"b")
    spring.end(UpstreamFailed("It broke."))
    assert [await first.read(), await first.read()] == [b"a", b"b"]
    for reader, missing in ((first, 0), (second, 2)):
        for _ in range(missing):
            await reader.read()
        with pytest.raises(UpstreamFailed, match="It broke"):
            await reader.read()
    assert fanout.join(KEY) is None
    await first.aclose()
    await second.aclose()


async def test_the_upstream_is_closed_when_the_last_reader_leaves() -> None:
    budget = budget_of()
    fanout, spring = Fanout(budget), Spring()
    first, second = shared(fanout, spring), joined(fanout)
    waiting = spawn(second.read(), name="reader")
    await eventually(lambda: spring.reads == 1)
    await first.aclose()
    await first.aclose()
    assert spring.closings == 0
    spring.pour(segment(1), b"a")
    assert await waiting == b"a"
    await second.aclose()
    assert spring.closings >= 1
    assert (fanout.upstreams, budget.used_bytes) == (0, 0)


async def test_the_upstream_is_closed_if_the_only_reader_leaves_before_its_first_read() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    await shared(fanout, spring).aclose()
    assert spring.reads == 0
    assert spring.closings >= 1


async def test_cancelling_a_waiting_reader_does_not_affect_the_other_readers() -> None:
    fanout, spring = Fanout(budget_of()), Spring()
    first, second = shared(fanout, spring), joined(fanout)
    waiting = [spawn(reader.read(), name="reader") for reader in (first, second)]
    await eventually(lambda: spring.reads == 1)
    await cancel(waiting[0])
    await first.aclose()
    spring.pour(segment(1), b"a")
    assert await waiting[1] == b"a"
    await second.aclose()


async def test_closing_a_reader_continues_even_if_the_task_that_closes_it_is_cancelled() -> None:
    budget = budget_of()
    fanout, spring = Fanout(budget), Spring()
    reader = shared(fanout, spring)
    spring.pour(segment(1), b"a")
    await reader.read()
    closing = spawn(reader.aclose(), name="closing")
    await asyncio.sleep(0)
    await cancel(closing)
    await eventually(lambda: budget.used_bytes == 0)
    assert (budget.used_bytes, fanout.upstreams) == (0, 0)
    assert spring.closings >= 1


async def test_if_the_budget_has_too_little_memory_for_a_ring_no_second_reader_joins_but_the_first_gets_all() -> None:
    fanout, spring = Fanout(budget_of(2 * JOIN_BYTES - 2)), Spring()
    first = shared(fanout, spring)
    assert fanout.join(KEY) is None
    assert fanout.share(KEY, Spring()) is None
    count = 4 * JOIN_BYTES // len(CHUNK)
    spring.pour(segment(1), *[CHUNK] * count)
    spring.end()
    assert len(await rest_of(first)) == count * len(CHUNK)
    await first.aclose()


async def test_if_the_budget_has_too_little_memory_for_the_initialization_section_no_second_reader_joins() -> None:
    fanout, spring = Fanout(budget_of(1024)), Spring()
    first = shared(fanout, spring)
    spring.pour(segment(1, initial=True), bytes(2048))
    spring.pour(segment(1), b"a")
    spring.end()
    assert await rest_of(first) == bytes(2048) + b"a"
    await first.aclose()


async def test_only_one_task_at_a_time_can_open_the_upstream_of_a_stream() -> None:
    fanout = Fanout(budget_of())
    inside: list[int] = []

    async def enter(number: int) -> None:
        async with fanout.turn(KEY):
            inside.append(number)
            await asyncio.sleep(0)
            assert inside.pop() == number

    tasks = [spawn(enter(number), name="opener") for number in range(5)]
    await asyncio.sleep(0)
    await cancel(tasks[0])
    await asyncio.gather(*tasks[1:])
    async with asyncio.timeout(PATIENCE_SECONDS), fanout.turn("another page"), fanout.turn(KEY):
        pass
