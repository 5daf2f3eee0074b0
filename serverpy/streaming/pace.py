"""How much to read at once from a media server, by how fast the client takes it."""

from __future__ import annotations

from serverpy.memory.room import Room
from serverpy.net.connection import LARGE_STEP, SMALL_STEP

FAST_BYTES = 16 << 20
FAST_GAP_SECONDS = 0.05


class Pace:
    """How much to read at once for this reader. Large steps cost less CPU and more memory: they are for one who comes
    back at once, time after time (not by its first bytes, which only fill the kernel's buffers), and only if the
    budget has the room to spare. The room is given back when the reader falls behind. Times are those of any one
    clock, in seconds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._hurries = False
        self._handed_at = 0.0
        self._swift_bytes = 0

    def step(self, now: float) -> int:
        """The step for the read that begins now, when nothing of an earlier one is held any more."""
        if now - self._handed_at > FAST_GAP_SECONDS:
            self._swift_bytes = 0
        fast = self._swift_bytes > FAST_BYTES
        if fast and not self._hurries:
            self._hurries = self._room.try_grow(LARGE_STEP - SMALL_STEP)
        elif self._hurries and not fast:
            self._room.shrink(LARGE_STEP - SMALL_STEP)
            self._hurries = False
        return LARGE_STEP if self._hurries else SMALL_STEP

    def hand(self, nbytes: int, now: float) -> None:
        """`nbytes` go to the reader now."""
        self._swift_bytes += nbytes
        self._handed_at = now
