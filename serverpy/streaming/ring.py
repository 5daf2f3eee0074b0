"""A bounded buffer of the latest bytes of a stream that several clients read; `broadcast.py` fills the buffer. Does no
I/O.

Chunks are numbered from the beginning of the stream. Chunks that every reader has had are dropped, except the latest
segment, with which a new reader would begin. Chunks beyond the bound are dropped, too, the oldest first: a reader that
still needed them has fallen behind.
"""

from __future__ import annotations

from collections import deque

from serverpy.memory.room import Lender, Room

RING_BYTES = 8 * 1024 * 1024
"""Maximum bytes of one ring: 13 seconds at 5 Mbit/s."""
STEP_BYTES = 256 * 1024
"""Bytes by which a ring grows or shrinks at once."""
CHUNK_BYTES = 128
"""Bytes of a chunk besides its data. These bytes are charged, so that a source that sends byte by byte pays for its
overhead."""


class Ring:
    """A queue of chunks. The ring always holds the newest chunk, because the stream holds that one anyway. It holds
    older chunks, up to `most_bytes`, if `lender` can spare the bytes. The owner of the ring closes it."""

    def __init__(self, lender: Lender, most_bytes: int = RING_BYTES) -> None:
        self._room = Room(lender)
        self._most_bytes = most_bytes
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._least_bytes = 0
        self.first = 0
        """The number of the oldest chunk."""
        self.boundary: int | None = None
        """The number of the chunk with which the latest segment begins, while the ring has it."""

    @property
    def end(self) -> int:
        """The number that the next chunk will have."""
        return self.first + len(self._chunks)

    def hold(self, nbytes: int) -> bool:
        """Reserve `nbytes` until `close`. Returns False if the lender cannot spare them."""
        while self._room.nbytes < nbytes:
            if not self._grow():
                return False
        self._least_bytes = nbytes
        return True

    def add(self, chunk: bytes, *, begins: bool) -> None:
        """Append `chunk`; `begins` is whether a segment begins with it. Drops the oldest chunks if the ring has no room
        for all."""
        first = self.first_beside(len(chunk))
        while self.first < first:
            self._drop()
        if begins:
            self.boundary = self.end
        self._chunks.append(chunk)
        self._bytes += _cost(len(chunk))

    def first_beside(self, nbytes: int) -> int:
        """Return the number of the oldest chunk that still fits beside a new one of `nbytes`. Grows the ring if
        necessary and possible."""
        while self._bytes + _cost(nbytes) > self._room.nbytes and self._grow():
            pass
        excess, first = self._bytes + _cost(nbytes) - self._room.nbytes, self.first
        for chunk in self._chunks:
            if excess <= 0:
                break
            excess -= _cost(len(chunk))
            first += 1
        return first

    def get(self, number: int) -> bytes:
        """Return a chunk by its number, from `first` to before `end`."""
        return self._chunks[number - self.first]

    def drop_below(self, number: int) -> None:
        """Drop the chunks before `number`, which no reader needs, but keep the latest segment."""
        keep = number if self.boundary is None else min(number, self.boundary)
        while self._chunks and self.first < keep:
            self._drop()
        needed = max(self._bytes + STEP_BYTES, self._least_bytes)
        while self._room.nbytes - needed >= STEP_BYTES:
            self._room.shrink(STEP_BYTES)

    def close(self) -> None:
        """Drop the chunks, and give back their bytes. Idempotent."""
        self._chunks.clear()
        self._room.release()

    def _grow(self) -> bool:
        return self._room.nbytes + STEP_BYTES <= self._most_bytes and self._room.try_grow(STEP_BYTES)

    def _drop(self) -> None:
        self._bytes -= _cost(len(self._chunks.popleft()))
        if self.boundary == self.first:
            self.boundary = None
        self.first += 1


def _cost(nbytes: int) -> int:
    return nbytes + CHUNK_BYTES
