"""Helpers for file descriptors that pass from one owner to another, within a process or between two processes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Descriptor:
    """A file descriptor with one owner at a time, who closes it."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    @property
    def number(self) -> int:
        assert self._number is not None
        return self._number

    def release(self) -> int:
        """Give up ownership, and return the number of the descriptor to the new owner, who must close it."""
        number, self._number = self._number, None
        assert number is not None
        return number

    def close(self) -> None:
        if self._number is not None:
            os.close(self.release())


@contextmanager
def closing(number: int) -> Iterator[Descriptor]:
    """Provide `number` as a `Descriptor`, and close it at the end of the block unless the block has called
    `release`."""
    descriptor = Descriptor(number)
    try:
        yield descriptor
    finally:
        descriptor.close()


async def send_with(sock: socket.socket, data: bytes, descriptors: Sequence[int]) -> bytes:
    """Send `descriptors` (SCM_RIGHTS) with as much of `data` as the socket takes. Returns the unsent rest of `data`."""
    while True:
        try:
            return data[socket.send_fds(sock, [data], descriptors) :]
        except BlockingIOError:
            await _writable(sock)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)
