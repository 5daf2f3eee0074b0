"""Standard output as a destination for media, written without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import stat


class Standard:
    """A writer with back-pressure: `write` returns when the pipe has taken all bytes, and can be cancelled earlier.

    Other processes share the descriptor, so the writer does not change its flags, but opens a pipe or terminal again.
    `close` does not close the given descriptor.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._own: int | None = None
        # a regular file never blocks for long, and opening it again would lose its offset
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._own = _open_again(descriptor)

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises BrokenPipeError if the reader has closed the pipe."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor if self._own is None else self._own, view) :]
            except BlockingIOError:
                await _writable(self._descriptor if self._own is None else self._own)

    def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            os.close(own)


def _open_again(descriptor: int) -> int | None:
    """Open the file again, non-blocking. Returns None if that is not possible (a socket, or another user's pipe): then
    a slow reader blocks the event loop."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
