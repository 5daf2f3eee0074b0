"""The reading end of a pipe of the operating system. In the methods `embedded` and `subprocess`, another process writes
the media into such a pipe. The pipe exerts back-pressure: a process that writes into a full pipe waits until the server
process has read from the pipe."""

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
from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.options import Limits

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SMALLEST_BYTES = PAGE_BYTES
_PIPE_MAX_SIZE = Path("/proc/sys/fs/pipe-max-size")
_DEFAULT_MAX_BYTES = 1024 * 1024


def largest_pipe_bytes() -> int:
    """Return the maximum size, in bytes, of a pipe that an unprivileged process may request (pipe(7),
    /proc/sys/fs/pipe-max-size)."""
    try:
        return int(_PIPE_MAX_SIZE.read_text())
    except (OSError, ValueError):
        return _DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class HandOver:
    """The capacity of a stream's pipe, and the maximum size of one read from it, in bytes."""

    pipe_bytes: int
    chunk_bytes: int


def hand_over(limits: Limits, largest: int = _DEFAULT_MAX_BYTES) -> HandOver:
    """Choose the capacity of the pipe and the size of a chunk. The capacity is a power of two, because the kernel
    supports no other sizes, and at least one memory page. The capacity is at most `largest`, at most QUEUE_CHUNKS ×
    CHUNK_BYTES, and at most half the memory budget divided by MAX_WORKERS."""
    bound = min(limits.queue_chunks * limits.chunk_bytes, limits.memory_budget // 2 // limits.max_workers, largest)
    return HandOver(max(SMALLEST_BYTES, 1 << max(bound, 1).bit_length() - 1), limits.chunk_bytes)


def open_pipe(size: int) -> tuple[int, int]:
    """Open a pipe of `size` bytes, and return its reading end and its writing end, which the caller must close.

    If all pipes of this user together exceed the kernel's limit (pipe-user-pages-soft), the pipe is smaller than
    `size`, because the kernel then does not enlarge a pipe.
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
    """Return the number of unread bytes in all pipes that this process reads."""
    return sum(reader.waiting_bytes for reader in list(_readers))


class PipeReader:
    """The reader of a pipe. It closes `fd`, the reading end of the pipe. Only one task may read at a time. EOF shows
    only that all writers have closed the pipe, not that they have written all bytes. Therefore the caller must check in
    another way that no bytes are missing.
    """

    stall_seconds: float | None = None
    """Maximum number of seconds that a read waits for a byte. It then raises `UpstreamTimeout`, even if the writing
    process is frozen. None means no limit."""

    def __init__(self, fd: int, chunk_bytes: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._chunk_bytes = chunk_bytes
        self._waiter: asyncio.Future[None] | None = None
        self.received = 0
        _readers.add(self)

    @property
    def waiting_bytes(self) -> int:
        """Number of unread bytes in the pipe."""
        if self._fd < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Wait for bytes in the pipe, and return at most `most` bytes and at most `chunk_bytes` bytes. Returns `b""`
        when all writers have closed the pipe and it is empty.

        Raises `UpstreamFailed` if the reader is closed before or during the call, and `UpstreamTimeout` if no byte
        arrives within `stall_seconds`. Each call lets the event loop run other tasks.
        """
        # A read of a pipe that has bytes does not wait, so a fast writer would keep the event loop from running other
        # tasks without this call of `sleep`.
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
        timer = None if self.stall_seconds is None else loop.call_later(self.stall_seconds, self._stall)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if self._fd >= 0:
                loop.remove_reader(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stall(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(UpstreamTimeout(f"Yt-dlp has sent no byte for {self.stall_seconds:g} seconds."))

    def close(self) -> None:
        """Close the pipe: a waiting `read` raises `UpstreamFailed`, and the writers get EPIPE. Idempotent."""
        if self._fd < 0:
            return
        if self._waiter is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        self._wake()
