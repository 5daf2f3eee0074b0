"""Chooses how many bytes to read at once from a media server, by the speed of the client."""

from __future__ import annotations

from serverpy.memory.room import Lender, Room
from serverpy.net.connection import LARGE_STEP, SMALL_STEP

FAST_BYTES = 16 << 20
FAST_GAP_SECONDS = 0.05
EXTRA_BYTES = LARGE_STEP - SMALL_STEP
"""Bytes that large steps hold beyond the reservation."""


class Pace:
    """The step for one reader: the number of bytes to read at once. Large steps cost less CPU and more memory. A reader
    gets them if it keeps coming back at once (its first bytes do not count, because they only fill the kernel's
    buffers), and if `lender` can spare the bytes. The pace gives the bytes back when the reader falls behind, and at
    `release`. Times are in seconds, of any one clock."""

    def __init__(self, lender: Lender) -> None:
        self._room = Room(lender)
        self._handed_at = 0.0
        self._swift_bytes = 0
        self._is_large = False

    def step(self, now: float) -> int:
        """Return the step for a read that begins now, when no bytes of an earlier read are held."""
        if now - self._handed_at > FAST_GAP_SECONDS:
            self._swift_bytes = 0
        if self._swift_bytes > FAST_BYTES:
            self._is_large = self._is_large or self._room.try_grow(EXTRA_BYTES)
        elif self._is_large:
            self._is_large = False
            self._room.shrink(EXTRA_BYTES)
        return LARGE_STEP if self._is_large else SMALL_STEP

    def hand(self, nbytes: int, now: float) -> None:
        """Record that `nbytes` are handed to the reader now."""
        self._swift_bytes += nbytes
        self._handed_at = now

    def release(self) -> None:
        """Give back the bytes of large steps. Idempotent."""
        self._room.release()
