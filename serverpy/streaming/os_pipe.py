"""The server's end of an operating system's pipe that another process fills, for the methods `embedded` and
`subprocess`. The pipe's size is the back-pressure: a process that writes into a full pipe waits until the client has
read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
import weakref
from dataclasses import dataclass
from pathlib import Path

from serverpy.body import UNBOUNDED
from serverpy.errors import UpstreamFailed
from serverpy.options import Limits

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SMALLEST_BYTES = PAGE_BYTES
_PIPE_MAX_SIZE = Path("/proc/sys/fs/pipe-max-size")
_DEFAULT_MAX_BYTES = 1024 * 1024


def largest_pipe_bytes() -> int:
    """Return the largest pipe, in bytes, that an unprivileged process may ask for: pipe(7),
    /proc/sys/fs/pipe-max-size."""
    try:
        return int(_PIPE_MAX_SIZE.read_text())
    except (OSError, ValueError):
        return _DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class HandOver:
    """The capacity of a stream's pipe, and the maximum bytes of one read from it."""

    pipe_bytes: int
    chunk_bytes: int


def hand_over(limits: Limits, largest: int = _DEFAULT_MAX_BYTES) -> HandOver:
    """Choose the sizes of pipe and chunk. The pipe has at least one page. Beyond that, it has the largest power of two
    bytes (the kernel makes no other sizes) within QUEUE_CHUNKS × CHUNK_BYTES, within an equal share of half the budget
    for each of `max_workers`, and within `largest`."""
    bound = min(limits.queue_chunks * limits.chunk_bytes, limits.memory_budget // 2 // limits.max_workers, largest)
    return HandOver(max(SMALLEST_BYTES, 1 << max(bound, 1).bit_length() - 1), limits.chunk_bytes)


def open_pipe(size: int) -> tuple[int, int]:
    """Open a pipe of `size` bytes, and return (reading end, writing end), which the caller closes.

    If the pipes of this user exceed the kernel's limit (pipe-user-pages-soft), the kernel makes a small pipe and
    refuses to enlarge it; the pipe then stays small.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    except BaseException:
        os.close(reader)
        os.close(writer)
        raise
    return reader, writer


_readers: weakref.WeakSet[PipeReader] = weakref.WeakSet()


def buffered_bytes() -> int:
    """Return how many bytes wait in all pipes that this process is reading."""
    return sum(reader.waiting_bytes for reader in list(_readers))


class PipeReader:
    """Reader of a pipe, which owns the pipe's reading end `fd`. Only one task may read at a time. EOF shows only that
    all writers have closed the pipe, not that they have written everything: the caller must ask the writers.
    """

    def __init__(self, fd: int, chunk_bytes: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._chunk_bytes = chunk_bytes
        self._waiter: asyncio.Future[None] | None = None
        self.received = 0
        _readers.add(self)

    @property
    def waiting_bytes(self) -> int:
        """The number of bytes that wait in the pipe."""
        if self._fd < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Return the next bytes, at most `most` and at most one chunk, as soon as there are any; `b""` when all writers
        have closed the pipe.

        Raises `UpstreamFailed` if the reader is closed before or during the call. Yields to the event loop each time.
        """
        # Reading a full pipe never waits, so without this call the other tasks on the loop would wait.
        await asyncio.sleep(0)
        while True:
            if self._fd < 0:
                raise UpstreamFailed("The stream was closed while it was being read.")
            try:
                data = os.read(self._fd, min(most, self._chunk_bytes))
            except BlockingIOError:
                await self._readable()
            else:
                self.received += len(data)
                return data

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        loop.add_reader(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._fd >= 0:
                loop.remove_reader(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Close the pipe: a waiting `read` wakes, and the writers get EPIPE. Idempotent."""
        if self._fd < 0:
            return
        if self._waiter is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        self._wake()
