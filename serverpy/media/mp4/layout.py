"""The layout of a virtual file, which maps each byte to a byte of the layout's own header or of a source.

All requests for the same pair share one layout: a header, and a plan of runs in packed columns. A bisection and a walk
find the bytes of a range.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

VIDEO, AUDIO, HEADER = 0, 1, 2
"""Numbers of the sources of bytes: the two files of a pair, and the layout's own header."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Contiguous bytes: `length` bytes at `offset` of `source`. A piece of a track belongs to run number `run`, and
    begins `skip` bytes after the run's first byte."""

    source: int
    offset: int
    length: int
    run: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A virtual file of `total` bytes. Run r is at `starts[r]`, up to `starts[r + 1]`, and comes from `offsets[r]` of
    the source `sources[r]`. `sizes` are the lengths, in bytes, of the sources that the layout was made for. Without
    `numbers`, runs are passed on unchanged. With `numbers`, the track numbers in the sources, each run is a block of
    fragments whose moofs are patched while they are sent (`fragments.py`). `seconds` is the duration of the film; None
    if it is unknown."""

    header: bytes
    starts: array[int]
    offsets: array[int]
    sources: bytes
    sizes: tuple[int, int]
    numbers: tuple[int, int] | None = None
    seconds: float | None = None

    @property
    def total(self) -> int:
        return self.starts[-1]

    @property
    def nbytes(self) -> int:
        """The bytes that the layout holds in memory."""
        return len(self.header) + 8 * (len(self.starts) + len(self.offsets)) + len(self.sources)

    def read(self, first: int, end: int) -> Iterator[Piece]:
        """Yield the bytes from `first` to before `end` as pieces, in order."""
        if first < min(end, len(self.header)):
            yield Piece(HEADER, first, min(end, len(self.header)) - first)
            first = len(self.header)
        run = bisect_right(self.starts, first) - 1
        while first < end:
            stop = min(end, self.starts[run + 1])
            skip = first - self.starts[run]
            if stop > first:
                yield Piece(self.sources[run], self.offsets[run] + skip, stop - first, run, skip)
            first = stop
            run += 1

    def bounds(self, source: int, first: int, end: int) -> tuple[int, int] | None:
        """Return the offset of the first byte of `source` that the range needs, and the offset after the last. Returns
        None if the range needs no byte of `source`. A block of fragments must be read from its beginning."""
        first = max(first, len(self.header))
        if first >= end:
            return None
        begin_run, end_run = bisect_right(self.starts, first) - 1, bisect_right(self.starts, end - 1)
        low = self.sources.find(source, begin_run, end_run)
        if low < 0:
            return None
        high = self.sources.rfind(source, begin_run, end_run)
        begin = self.offsets[low] + (max(0, first - self.starts[low]) if self.numbers is None else 0)
        return begin, self.offsets[high] + min(end, self.starts[high + 1]) - self.starts[high]
