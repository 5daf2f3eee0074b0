"""The layout of a virtual file, the merged MP4, which maps each byte of that file to a byte of the layout's own header
or of a source file.

All requests for the same pair of source files share one layout: a header, and a list of runs (contiguous bytes of one
source) as arrays. A binary search finds the first run of a range.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serverpy.media.mp4.trex import Defaults

VIDEO, AUDIO, HEADER, MADE = 0, 1, 2, 3
"""Numbers that name the sources of the bytes of the merged file: the video file, the audio file, the header in the
layout, and the beginnings of made fragments in the layout."""
MAX_MOOFS = 256
"""Number of sequence numbers for each block, which is the part of a source file that one entry of the file's sidx or
mfra describes. If a block has more fragments, the last number is used repeatedly, because players do not need the
numbers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A contiguous part of a merged file: `length` bytes at `offset` of `source`. A part from the video or audio file
    belongs to the run (see `Layout`) with the number `run`, and begins `skip` bytes after the first byte of that
    run."""

    source: int
    offset: int
    length: int
    run: int = 0
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A virtual file of `total` bytes, divided into runs: contiguous bytes of one source. Run r consists of the bytes
    `starts[r]` to `starts[r + 1] - 1` of the file, and is read from offset `offsets[r]` of the source `sources[r]`.
    `sizes` are the lengths, in bytes, of the sources for which the layout was made. `numbers` contains the track number
    of each source, or None if the runs of the source are sent unchanged. Each run of a source with a track number is a
    block of fragments with `most_moofs` sequence numbers, and the moofs are patched while they are sent to the client
    (`fragments.py`). If such a source has several tracks, `others` has the defaults (trex) of all its tracks, and the
    fragments of the other tracks are left out. `made` has the beginnings of the fragments that are made for a source
    that is not fragmented (`made_fragments.py`). `is_indexed` states whether the header has an index (sidx) of the
    fragments. `seconds` is the duration of the merged file in seconds, or None if it is unknown."""

    header: bytes
    starts: array[int]
    offsets: array[int]
    sources: bytes
    sizes: tuple[int, int]
    numbers: tuple[int | None, int | None] = None, None
    seconds: float | None = None
    most_moofs: int = MAX_MOOFS
    made: bytes = b""
    others: tuple[Mapping[int, Defaults] | None, Mapping[int, Defaults] | None] = None, None
    is_indexed: bool = False

    @property
    def total(self) -> int:
        return self.starts[-1]

    @property
    def nbytes(self) -> int:
        """Number of bytes of memory that the layout takes."""
        return len(self.header) + len(self.made) + 8 * (len(self.starts) + len(self.offsets)) + len(self.sources)

    def read(self, first: int, end: int) -> Iterator[Piece]:
        """Yield, in order, the parts that make up the bytes `first` to `end - 1` of the merged file."""
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
        """Return the offset of the first byte of `source` that the bytes `first` to `end - 1` of the merged file need,
        and the offset after the last such byte. Returns None if these bytes need no byte of `source`. In a fragmented
        file, the first offset is the beginning of a block of fragments, because a block must be read from its
        beginning."""
        first = max(first, len(self.header))
        if first >= end:
            return None
        begin_run, end_run = bisect_right(self.starts, first) - 1, bisect_right(self.starts, end - 1)
        low = self.sources.find(source, begin_run, end_run)
        if low < 0:
            return None
        high = self.sources.rfind(source, begin_run, end_run)
        begin = self.offsets[low] + (max(0, first - self.starts[low]) if self.numbers[source] is None else 0)
        return begin, self.offsets[high] + min(end, self.starts[high + 1]) - self.starts[high]
