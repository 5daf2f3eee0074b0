"""The last bytes of a stream that several clients read, bounded in bytes; `fanout.py` fills it. Does no I/O.

Chunks are numbered from the beginning of the stream. What every reader has had is dropped, but for what one who joins
would begin with: the latest segment. What the bound leaves no room for is dropped too, the oldest first: a reader who
still needed it has fallen behind.
"""

from __future__ import annotations

from collections import deque

from serverpy.memory.room import Room

RING_BYTES = 8 * 1024 * 1024
"""The most that one ring holds: 13 seconds at 5 Mbit/s."""
STEP_BYTES = 256 * 1024
"""By how much it grows, if the room has so much to spare, and shrinks."""
CHUNK_BYTES = 128
"""What a chunk holds besides its bytes. It is charged, lest a source that sends byte by byte be a cheap one."""


class Ring:
    """Holds its newest chunk in any case, which is the stream's chunk in hand, and beyond it what it was granted by
    `room`, up to `most_bytes`. `room` gets back what is no longer held; the last of it is for its owner to release."""

    def __init__(self, room: Room, most_bytes: int = RING_BYTES) -> None:
        self._room = room
        self._most_bytes = most_bytes
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._granted_bytes = 0
        self._least_bytes = 0
        self.first = 0
        """The number of the oldest chunk."""
        self.boundary: int | None = None
        """The number of the chunk with which the latest segment begins, while it is here."""

    @property
    def end(self) -> int:
        """The number that the next chunk will have."""
        return self.first + len(self._chunks)

    @property
    def granted_bytes(self) -> int:
        return self._granted_bytes

    def hold(self, nbytes: int) -> bool:
        """Have room for so many at all times from now on; False if there is not so much to spare."""
        while self._granted_bytes < nbytes:
            if not self._grow():
                return False
        self._least_bytes = nbytes
        return True

    def add(self, chunk: bytes, *, begins: bool) -> None:
        """`begins` says that a segment begins with it."""
        first = self.first_beside(len(chunk))
        while self.first < first:
            self._drop()
        if begins:
            self.boundary = self.end
        self._chunks.append(chunk)
        self._bytes += _cost(len(chunk))

    def first_beside(self, nbytes: int) -> int:
        """The number of the oldest chunk that there is room for beside a new one of `nbytes`; takes that room."""
        while self._bytes + _cost(nbytes) > self._granted_bytes and self._grow():
            pass
        excess, first = self._bytes + _cost(nbytes) - self._granted_bytes, self.first
        for chunk in self._chunks:
            if excess <= 0:
                break
            excess -= _cost(len(chunk))
            first += 1
        return first

    def get(self, number: int) -> bytes:
        """Of `first` to before `end`."""
        return self._chunks[number - self.first]

    def drop_below(self, number: int) -> None:
        """No reader needs the chunks before `number` any more."""
        keep = number if self.boundary is None else min(number, self.boundary)
        while self._chunks and self.first < keep:
            self._drop()
        needed = max(self._bytes + STEP_BYTES, self._least_bytes)
        while self._granted_bytes - needed >= STEP_BYTES:
            self._room.shrink(STEP_BYTES)
            self._granted_bytes -= STEP_BYTES

    def _grow(self) -> bool:
        if self._granted_bytes + STEP_BYTES > self._most_bytes or not self._room.try_grow(STEP_BYTES):
            return False
        self._granted_bytes += STEP_BYTES
        return True

    def _drop(self) -> None:
        self._bytes -= _cost(len(self._chunks.popleft()))
        if self.boundary == self.first:
            self.boundary = None
        self.first += 1


def _cost(nbytes: int) -> int:
    return nbytes + CHUNK_BYTES
