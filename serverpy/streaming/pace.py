"""The choice of how many bytes to read at once from a media server, by the speed of the client."""

from __future__ import annotations

from serverpy.memory.room import Lender, Room
from serverpy.net.connection import LARGE_STEP, SMALL_STEP

FAST_BYTES = 16 << 20
FAST_GAP_SECONDS = 0.05
EXTRA_BYTES = LARGE_STEP - SMALL_STEP
"""Bytes that large steps hold beyond the reservation."""


class Pace:
    """The step for one reader: the number of bytes to read at once. A large step costs less CPU and more memory than a
    small one. A reader gets large steps if it has taken FAST_BYTES without a pause of more than FAST_GAP_SECONDS (fewer
    bytes may only fill the kernel's buffers), and if `lender` can spare the bytes. The pace gives the bytes back after
    a longer pause, and at `release`. Times are in seconds of one clock."""

    def __init__(self, lender: Lender) -> None:
        self._room = Room(lender)
        self._handed_at = 0.0
        self._swift_bytes = 0
        self._is_large = False

    def step(self, now: float) -> int:
        """Return the step for a read that begins at `now`. The caller must not hold bytes of an earlier read."""
        if now - self._handed_at > FAST_GAP_SECONDS:
            self._swift_bytes = 0
        if self._swift_bytes > FAST_BYTES:
            self._is_large = self._is_large or self._room.try_grow(EXTRA_BYTES)
        elif self._is_large:
            self._is_large = False
            self._room.shrink(EXTRA_BYTES)
        return LARGE_STEP if self._is_large else SMALL_STEP

    def hand(self, nbytes: int, now: float) -> None:
        """Record that the reader got `nbytes` at `now`."""
        self._swift_bytes += nbytes
        self._handed_at = now

    def release(self) -> None:
        """Give back the bytes of large steps. Idempotent."""
        self._room.release()
