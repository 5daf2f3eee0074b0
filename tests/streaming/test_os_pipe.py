"""Tests of the reading end of a pipe into which another process writes."""

from __future__ import annotations

import asyncio
import fcntl
import os

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.options import Limits
from serverpy.streaming.os_pipe import (
    PAGE_BYTES,
    HandOver,
    PipeReader,
    buffered_bytes,
    hand_over,
    largest_pipe_bytes,
    open_pipe,
)
from serverpy.tasks import spawn

MIB = 1 << 20


@pytest.mark.parametrize(
    ("chunks", "chunk", "workers", "budget", "expected"),
    [
        (20, 65536, 20, 256 * MIB, MIB),
        (10, 65536, 5, 64 * MIB, 512 * 1024),
        (10, 65536, 50, 16 * MIB, 128 * 1024),
        (1, 5000, 1, 64 * MIB, 4096),
        (1, 100, 1, 64 * MIB, PAGE_BYTES),
        (1000, MIB, 1, 1 << 40, MIB),
    ],
)
def test_the_size_of_a_pipe_is_the_largest_power_of_two_within_all_limits(
    chunks: int, chunk: int, workers: int, budget: int, expected: int
) -> None:
    limits = Limits(queue_chunks=chunks, chunk_bytes=chunk, max_workers=workers, memory_budget=budget)
    assert hand_over(limits) == HandOver(expected, chunk)


def test_open_pipe_returns_a_pipe_of_the_requested_size() -> None:
    reader, writer = open_pipe(4 * PAGE_BYTES)
    try:
        assert fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) == 4 * PAGE_BYTES
        assert largest_pipe_bytes() >= 4 * PAGE_BYTES
    finally:
        os.close(reader)
        os.close(writer)


async def test_the_bytes_of_a_pipe_are_read_chunk_by_chunk_up_to_the_end() -> None:
    reading_end, writer = open_pipe(65536)
    reader = PipeReader(reading_end, 1000)
    os.write(writer, b"a" * 1500)
    assert await reader.read() == b"a" * 1000
    assert await reader.read(200) == b"a" * 200
    assert await reader.read(5000) == b"a" * 300
    waiting = spawn(reader.read(), name="read")
    await asyncio.sleep(0)
    os.write(writer, b"late")
    assert await waiting == b"late"
    os.close(writer)
    assert await reader.read() == b""
    assert reader.received == 1504
    reader.close()


async def test_closing_the_reader_of_a_pipe_wakes_its_waiting_read() -> None:
    reading_end, writer = open_pipe(65536)
    reader = PipeReader(reading_end, 1000)
    waiting = spawn(reader.read(), name="read")
    for _ in range(3):
        await asyncio.sleep(0)
    reader.close()
    reader.close()
    with pytest.raises(UpstreamFailed):
        await waiting
    with pytest.raises(UpstreamFailed):
        await reader.read()
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


async def test_cancelling_a_read_of_a_pipe_loses_no_byte() -> None:
    reading_end, writer = open_pipe(65536)
    reader = PipeReader(reading_end, 1000)
    waiting = spawn(reader.read(), name="read")
    for _ in range(3):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    os.write(writer, b"still here")
    assert await reader.read() == b"still here"
    reader.close()
    os.close(writer)


async def test_the_bytes_buffered_in_pipes_are_counted_until_the_reader_is_closed() -> None:
    before = buffered_bytes()
    reading_end, writing_end = open_pipe(65536)
    reader = PipeReader(reading_end, 1000)
    os.write(writing_end, bytes(5000))
    assert buffered_bytes() - before == 5000
    await reader.read()
    assert buffered_bytes() - before == 4000
    reader.close()
    os.close(writing_end)
    assert buffered_bytes() == before
