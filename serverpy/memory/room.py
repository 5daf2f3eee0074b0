"""The accounting of the memory that parts of a stream hold beyond the bytes that the stream reserved before it began.

    budget ◀── reservation (one stream) ◀── room (a part of it) ◀── room (a part of that)
       ▲
       └─────── room (what several streams share)

A room is an account of borrowed bytes. It has one owner, which reports how many bytes it holds: a read that requests
many bytes at a time, a playlist, a ring buffer, or a layout that is being made. Two invariants hold:

- Bytes are charged to the lender before they are held. The exception is a playlist, whose packed size is known only
  after packing: it is charged in the same iteration of the event loop. So the count of a lender is the sum of the bytes
  of its rooms, plus the bytes that its owner holds itself.
- Bytes are given back once: by `shrink`, or all together by `release`. A lender that is released also gives back the
  bytes of its rooms, and ignores what the rooms give back later.

The functions may only be called in the thread of the event loop.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable


class Lender(Protocol):
    """The lender of a room's bytes, which counts the bytes that it has lent: a `Reservation`, the `Budget`, or another
    `Room`."""

    def try_grow(self, nbytes: int) -> bool:
        """Lend `nbytes` bytes if the lender can spare them. Returns whether it has lent them."""
        ...

    def shrink(self, nbytes: int) -> None:
        """Take `nbytes` lent bytes back. Does nothing if the lender is released."""
        ...


@runtime_checkable
class PatientLender(Lender, Protocol):
    """A lender that can make the borrower wait until bytes are free."""

    async def grow(self, nbytes: int) -> None:
        """Wait until `nbytes` bytes are free, and lend them. Lends nothing if the caller is cancelled."""
        ...


class _Nothing:
    """A lender that refuses every request."""

    def try_grow(self, _nbytes: int) -> bool:
        return False

    def shrink(self, _nbytes: int) -> None: ...


NO_ROOM: Lender = _Nothing()


class Room:
    """An account of the bytes that one owner holds. They are charged to `lender`, except for the first `covered_bytes`,
    which the stream has already reserved. Each time that `try_hold` must borrow, it borrows at least `step_bytes`. The
    owner must release the room, or its lender if the owner also owns the lender."""

    def __init__(self, lender: Lender, *, covered_bytes: int = 0, step_bytes: int = 1) -> None:
        self._lender = lender
        self._covered_bytes = covered_bytes
        self._step_bytes = step_bytes
        self._charged_bytes = 0
        self._released = False
        self._growing = asyncio.Lock()

    @property
    def nbytes(self) -> int:
        """Number of bytes that the owner may hold now, including `covered_bytes`; 0 after `release`."""
        return 0 if self._released else self._covered_bytes + self._charged_bytes

    def try_grow(self, nbytes: int) -> bool:
        """Borrow `nbytes` more bytes if the lender can spare them. Returns whether the bytes were borrowed; always
        False after `release`."""
        if self._released or not self._lender.try_grow(nbytes):
            return False
        self._charged_bytes += nbytes
        return True

    def try_hold(self, nbytes: int) -> bool:
        """Make sure that the room has at least `nbytes` bytes in total, if the lender can spare the missing bytes.
        Returns whether the room has them."""
        missing = nbytes - self.nbytes
        return missing <= 0 or self.try_grow(max(missing, self._step_bytes))

    async def grow(self, nbytes: int) -> None:
        """Borrow `nbytes` more bytes, and wait until the lender can lend them. Concurrent calls run one after another.
        Raises the lender's error if it refuses, and `RuntimeError` if the room is released before the lender has lent
        the bytes."""
        async with self._growing:
            await self._grow(nbytes)

    async def settle(self, nbytes: int) -> None:
        """Borrow or give back bytes until the room has exactly `nbytes` bytes in total. Waits and raises like
        `grow`."""
        async with self._growing:
            missing = nbytes - self.nbytes
            if missing > 0:
                await self._grow(missing)
            else:
                self.shrink(-missing)

    def shrink(self, nbytes: int) -> None:
        """Give `nbytes` bytes back to the lender. Does nothing after `release`. Raises `ValueError` if the room has
        borrowed fewer bytes."""
        if self._released:
            return
        if not 0 <= nbytes <= self._charged_bytes:
            raise ValueError("a room cannot give back more than it was charged")
        self._charged_bytes -= nbytes
        self._lender.shrink(nbytes)

    def move_to(self, lender: Lender) -> bool:
        """Borrow the bytes of the room from `lender` instead of the present lender. Returns False, and changes nothing,
        if `lender` cannot spare them. Raises `RuntimeError` while the room grows."""
        if self._growing.locked():
            raise RuntimeError("a room cannot move to another lender while it grows")
        if self._charged_bytes and not lender.try_grow(self._charged_bytes):
            return False
        self._lender.shrink(self._charged_bytes)
        self._lender = lender
        return True

    def leave_to_lender(self) -> int:
        """Release the room without giving its bytes back to the lender. Returns the number of these bytes, which the
        caller must give back later."""
        self._released = True
        nbytes, self._charged_bytes = self._charged_bytes, 0
        return nbytes

    def release(self) -> None:
        """Give all borrowed bytes back to the lender. Idempotent."""
        self.shrink(self._charged_bytes)
        self._released = True

    def __repr__(self) -> str:
        covered = f" ({self._covered_bytes} covered)" if self._covered_bytes else ""
        return f"<Room {self.nbytes} bytes{covered}{', released' if self._released else ''} of {self._lender!r}>"

    async def _grow(self, nbytes: int) -> None:
        if self._released:
            raise RuntimeError("a released room cannot grow")
        if not isinstance(self._lender, PatientLender):
            raise TypeError(f"a room cannot wait for bytes of {self._lender!r}, which has no method `grow`")
        await self._lender.grow(nbytes)
        self._take(nbytes)

    def _take(self, nbytes: int) -> None:
        """Count `nbytes` bytes, which the lender has lent, as borrowed. If the owner released the room while `_grow`
        waited for the lender, gives the bytes back and raises `RuntimeError`."""
        if self._released:
            self._lender.shrink(nbytes)
            raise RuntimeError("the room was released while it grew")
        self._charged_bytes += nbytes
