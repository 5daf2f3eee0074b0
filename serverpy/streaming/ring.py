"""The ring buffer: a limited number of the latest bytes of a live stream that several clients (readers) read.
`broadcast.py` adds the bytes. The module does no I/O.

Chunks are numbered from the beginning of the stream. Chunks that every reader has taken are dropped, except those of
the latest segment, with which a new reader would begin. If the ring is full, the oldest chunks are dropped even if a
reader still needs them: that reader has fallen behind.
"""

from __future__ import annotations

from collections import deque

from serverpy.memory.room import Lender, Room

RING_BYTES = 8 * 1024 * 1024
"""Maximum number of bytes in one ring buffer: 13 seconds of media at 5 Mbit/s."""
STEP_BYTES = 256 * 1024
"""Number of bytes by which the memory of a ring buffer grows or shrinks at once."""
CHUNK_BYTES = 128
"""Memory, in bytes, that a chunk takes in addition to its data. The ring counts this memory, so that a media server
that sends single bytes cannot make the ring exceed its limit."""


class Ring:
    """A queue of the latest chunks of a stream. The ring always holds the newest chunk, because the stream has already
    reserved memory for it. The ring holds older chunks, up to `most_bytes` in total, only if `lender` can spare the
    memory. The owner of the ring must close it."""

    def __init__(self, lender: Lender, most_bytes: int = RING_BYTES) -> None:
        self._room = Room(lender)
        self._most_bytes = most_bytes
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._least_bytes = 0
        self.first = 0
        """Number of the oldest chunk in the ring."""
        self.boundary: int | None = None
        """Number of the chunk with which the latest segment begins. None if the ring has dropped that chunk, or if no
        segment has begun."""

    @property
    def end(self) -> int:
        """Number that the next chunk to be added will get."""
        return self.first + len(self._chunks)

    def hold(self, nbytes: int) -> bool:
        """Borrow memory until the ring can hold `nbytes` bytes, and keep at least that much until `close`. Returns
        False if the lender cannot spare the memory."""
        while self._room.nbytes < nbytes:
            if not self._grow():
                return False
        self._least_bytes = nbytes
        return True

    def add(self, chunk: bytes, *, begins: bool) -> None:
        """Append `chunk`; `begins` states whether a segment begins with this chunk. Drops the oldest chunks if the ring
        cannot hold all chunks."""
        first = self.first_beside(len(chunk))
        while self.first < first:
            self._drop()
        if begins:
            self.boundary = self.end
        self._chunks.append(chunk)
        self._bytes += _cost(len(chunk))

    def first_beside(self, nbytes: int) -> int:
        """Return the number of the oldest chunk that could stay in the ring if a chunk of `nbytes` bytes were added.
        Borrows memory for that chunk if necessary and possible."""
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
        """Return the chunk with this number, which must be at least `first` and less than `end`."""
        return self._chunks[number - self.first]

    def drop_below(self, number: int) -> None:
        """Drop the chunks whose numbers are below `number`, because no reader needs them, but keep the chunks of the
        latest segment."""
        keep = number if self.boundary is None else min(number, self.boundary)
        while self._chunks and self.first < keep:
            self._drop()
        needed = max(self._bytes + STEP_BYTES, self._least_bytes)
        while self._room.nbytes - needed >= STEP_BYTES:
            self._room.shrink(STEP_BYTES)

    def close(self) -> None:
        """Drop all chunks, and give back their memory. Idempotent."""
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
