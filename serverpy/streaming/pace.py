"""The choice of how many bytes to read at once from a media server, depending on the speed of the client."""

from __future__ import annotations

from serverpy.memory.room import Lender, Room
from serverpy.net.connection import LARGE_STEP, SMALL_STEP

FAST_BYTES = 16 << 20
FAST_GAP_SECONDS = 0.05
EXTRA_BYTES = LARGE_STEP - SMALL_STEP
"""Memory, in bytes, that large reads take beyond the reservation of the stream."""


class Pace:
    """The size of the reads for one client: LARGE_STEP or SMALL_STEP bytes at once. Large reads take less CPU time and
    more memory than small reads. A client gets large reads if it has taken FAST_BYTES without a pause of more than
    FAST_GAP_SECONDS (fewer bytes may only have filled the kernel's buffers), and if `lender` can spare the memory.
    After a longer pause, and at `release`, this object gives the memory back. All times are in seconds of the same
    clock."""

    def __init__(self, lender: Lender) -> None:
        self._room = Room(lender)
        self._handed_at = 0.0
        self._swift_bytes = 0
        self._is_large = False

    def step(self, now: float) -> int:
        """Return the number of bytes to read at once for a read that begins at `now`. Before the call, the caller must
        have sent the bytes of the previous read to the client."""
        if now - self._handed_at > FAST_GAP_SECONDS:
            self._swift_bytes = 0
        if self._swift_bytes > FAST_BYTES:
            self._is_large = self._is_large or self._room.try_grow(EXTRA_BYTES)
        elif self._is_large:
            self._is_large = False
            self._room.shrink(EXTRA_BYTES)
        return LARGE_STEP if self._is_large else SMALL_STEP

    def hand(self, nbytes: int, now: float) -> None:
        """Record that the client took `nbytes` bytes at the time `now`."""
        self._swift_bytes += nbytes
        self._handed_at = now

    def release(self) -> None:
        """Give back the memory for large reads. Idempotent."""
        self._room.release()
