"""The ledger of the bytes that parts of a stream hold beyond the reservation that was made before the stream began.

    budget ◀── reservation (one stream) ◀── room (a part of it) ◀── room (a part of that)
       ▲
       └─────── room (what several streams share)

A room has one owner, which reports how many bytes it holds: a reader in large steps, a playlist, a ring of chunks, a
layout that is being made. Two invariants hold:

- Bytes are charged to the lender before they are held. The exception is a playlist, whose packed size is known only
  after packing: it is charged in the same turn of the event loop. So a lender's count is the sum of its rooms, plus
  what its owner holds beside them.
- Bytes are given back once: by `shrink`, or all together by `release`. A lender that is released also gives back the
  bytes of its rooms, and ignores what the rooms give back later.

Nothing here may be called from another thread.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable


class Lender(Protocol):
    """The source of a room's bytes, which counts them: a `Reservation`, the `Budget`, or another `Room`."""

    def try_grow(self, nbytes: int) -> bool:
        """Lend `nbytes` if that many are free. Returns whether the bytes are lent."""
        ...

    def shrink(self, nbytes: int) -> None:
        """Take `nbytes` back. Does nothing after the lender's release."""
        ...


@runtime_checkable
class PatientLender(Lender, Protocol):
    """A lender from which a borrower can wait for bytes."""

    async def grow(self, nbytes: int) -> None:
        """Lend `nbytes` as soon as they are free. Lends nothing if the caller is cancelled."""
        ...


class _Nothing:
    """A lender that never lends."""

    def try_grow(self, _nbytes: int) -> bool:
        return False

    def shrink(self, _nbytes: int) -> None: ...


NO_ROOM: Lender = _Nothing()


class Room:
    """Bytes that one owner holds, charged to `lender` except for the first `covered_bytes`, which the stream has
    already reserved. `try_hold` grows by at least `step_bytes`. The owner releases the room, or releases the room's
    lender if the owner also owns the lender."""

    def __init__(self, lender: Lender, *, covered_bytes: int = 0, step_bytes: int = 1) -> None:
        self._lender = lender
        self._covered_bytes = covered_bytes
        self._step_bytes = step_bytes
        self._charged_bytes = 0
        self._released = False
        self._growing = asyncio.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now, the covered ones included; 0 once released."""
        return 0 if self._released else self._covered_bytes + self._charged_bytes

    def try_grow(self, nbytes: int) -> bool:
        """Hold `nbytes` more if the lender can spare them. Returns whether the bytes are now held; always False after
        `release`."""
        if self._released or not self._lender.try_grow(nbytes):
            return False
        self._charged_bytes += nbytes
        return True

    def try_hold(self, nbytes: int) -> bool:
        """Hold `nbytes` or more in total, if the lender can spare the missing bytes. Returns whether the room now holds
        them."""
        missing = nbytes - self.nbytes
        return missing <= 0 or self.try_grow(max(missing, self._step_bytes))

    async def grow(self, nbytes: int) -> None:
        """Hold `nbytes` more, and wait for them if necessary; overlapping calls wait for each other. Raises the
        lender's errors, and RuntimeError if the room is released meanwhile."""
        async with self._growing:
            await self._grow(nbytes)

    async def settle(self, nbytes: int) -> None:
        """Hold exactly `nbytes` in total. Waits and raises like `grow`."""
        async with self._growing:
            missing = nbytes - self.nbytes
            if missing > 0:
                await self._grow(missing)
            else:
                self.shrink(-missing)

    def shrink(self, nbytes: int) -> None:
        """Give `nbytes` back. Does nothing after `release`. Raises ValueError if fewer are charged."""
        if self._released:
            return
        if not 0 <= nbytes <= self._charged_bytes:
            raise ValueError("a room cannot give back more than it was charged")
        self._charged_bytes -= nbytes
        self._lender.shrink(nbytes)

    def move_to(self, lender: Lender) -> bool:
        """Charge the bytes to `lender` from now on. Returns False, and changes nothing, if `lender` cannot spare
        them."""
        if self._growing.locked():
            raise RuntimeError("a room cannot move while it grows")
        if self._charged_bytes and not lender.try_grow(self._charged_bytes):
            return False
        self._lender.shrink(self._charged_bytes)
        self._lender = lender
        return True

    def leave_to_lender(self) -> int:
        """Release the room, but leave its bytes with the lender; from now on the caller is responsible for giving them
        back. Returns their number."""
        self._released = True
        nbytes, self._charged_bytes = self._charged_bytes, 0
        return nbytes

    def release(self) -> None:
        """Give all bytes back. Idempotent."""
        self.shrink(self._charged_bytes)
        self._released = True

    def __repr__(self) -> str:
        covered = f" ({self._covered_bytes} covered)" if self._covered_bytes else ""
        return f"<Room {self.nbytes} bytes{covered}{', released' if self._released else ''} of {self._lender!r}>"

    async def _grow(self, nbytes: int) -> None:
        if self._released:
            raise RuntimeError("a released room cannot grow")
        if not isinstance(self._lender, PatientLender):
            raise TypeError(f"cannot wait for bytes of {self._lender!r}")
        await self._lender.grow(nbytes)
        self._take(nbytes)

    def _take(self, nbytes: int) -> None:
        """Hold the lent bytes. Returns them to the lender and raises RuntimeError if the owner has released the room
        meanwhile."""
        if self._released:
            self._lender.shrink(nbytes)
            raise RuntimeError("the room was released while it grew")
        self._charged_bytes += nbytes
