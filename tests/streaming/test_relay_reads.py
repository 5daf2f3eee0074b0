"""Tests of how many bytes the body of a relayed file requests at once. The last read may be a little larger than the
usual step, so that it leaves no small rest."""

from __future__ import annotations

import pytest

from serverpy.body import Head
from serverpy.memory.room import NO_ROOM
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Extent
from serverpy.streaming.methods.relay import TAIL_BYTES, RelayBody
from serverpy.streaming.pace import Pace
from serverpy.tasks import Unlosable

HEAD_BYTES = 250
"""Length of the response head, which takes a part of the first read from the socket."""


class FileRead(Unlosable):
    """A read of a file of `total` bytes that records how many bytes each call requests."""

    partial = honoured = is_live = False
    takes_large_steps = True
    headers = Headers(())
    connect_seconds = 0.0

    def __init__(self, total: int) -> None:
        self.extent = Extent(0, total, total)
        self.asked: list[int] = []
        self._left = total - len(self.first)

    first = bytes(SMALL_STEP - HEAD_BYTES)

    async def read(self, most: int = SMALL_STEP) -> bytes:
        self.asked.append(most)
        given = min(most, self._left)
        self._left -= given
        return bytes(given)

    async def aclose(self) -> None: ...


async def steps_of(total: int, length: int | None) -> list[int]:
    """Return how many bytes the body of a file requests with each read until its EOF. `length` is the length that the
    client is told, or None if it is unknown."""
    read = FileRead(total)
    body = RelayBody(read, Head(content_type="video/mp4", ext="mp4", length=length), [read.first], Pace(NO_ROOM))
    received = 0
    while chunk := await body.read():
        received += len(chunk)
    assert received == total
    return read.asked[:-1]  # without the read that returned b"" at the end


@pytest.mark.parametrize(
    "total", [2 * SMALL_STEP, 2 * SMALL_STEP - HEAD_BYTES, 2 * SMALL_STEP + TAIL_BYTES - HEAD_BYTES]
)
async def test_the_last_read_also_takes_a_small_rest(total: int) -> None:
    assert await steps_of(total, total) == [SMALL_STEP + TAIL_BYTES]


async def test_a_read_that_is_not_the_last_takes_the_usual_step() -> None:
    total = 2 * SMALL_STEP + TAIL_BYTES
    assert await steps_of(total, total) == [SMALL_STEP, SMALL_STEP + TAIL_BYTES]
    total = 4 * SMALL_STEP
    assert await steps_of(total, total) == [SMALL_STEP, SMALL_STEP, SMALL_STEP + TAIL_BYTES]


async def test_all_reads_of_a_body_of_unknown_length_take_the_usual_step() -> None:
    assert await steps_of(2 * SMALL_STEP, None) == [SMALL_STEP, SMALL_STEP]


async def test_the_last_read_takes_no_more_than_its_caller_requests() -> None:
    read = FileRead(2 * SMALL_STEP)
    body = RelayBody(
        read, Head(content_type="video/mp4", ext="mp4", length=2 * SMALL_STEP), [read.first], Pace(NO_ROOM)
    )
    await body.read()
    assert len(await body.read(1000)) == 1000
    assert read.asked == [1000]
