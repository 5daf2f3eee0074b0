"""The search for the boxes that describe an MP4 (the moov, and the sidx or mfra that indexes the fragments), with few
range requests. The functions are pure: `locate` is a generator that yields each range that it needs, and its caller
reads the bytes of the range and passes them to `send`.

The first 64 KiB of most files contain the moov, or at least the headers of the boxes before the moov. In the second
case, one more read gets the moov.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace

from serverpy.errors import NotMedia, UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, children, damaged
from serverpy.media.mp4.defragment import Moofs
from serverpy.media.mp4.mfra import MFRO_BYTES, last_listed, lists_from, mfra_bytes
from serverpy.media.mp4.sidx import indexed_end, indexed_track, is_of_fragments
from serverpy.media.mp4.tracks import count_tracks, find_track, has_samples

PROBE_BYTES = 64 * 1024
MAX_INDEX_BYTES = 32 << 20
"""Maximum size, in bytes, of the moov of a file. The same limit applies to the sidx or mfra, which index the file's
fragments."""
MAX_MOOF_BYTES = 64 * 1024
"""Maximum size, in bytes, of a moof that a stream holds without borrowing memory. The moof of a fragment with one
minute of video at 60 frames per second takes 58 KB."""
MAX_LARGE_MOOF_BYTES = 8 << 20
"""Maximum size of a moof, in bytes. A moof of this size describes hours of video."""
WALK_BYTES = 512 * 1024
"""Number of bytes of each read of a file whose fragments are so short that several of them fit into one read."""
MAX_WALK_READS = 128
WALK_SECONDS = 3.0
"""Maximum number of range requests, and of seconds, that the search for the fragments of a file without an index may
take."""
_LEAST_BYTES, _MOST_BYTES = 4096, 1 << 20
"""Minimum and maximum number of bytes of a read that searches for a fragment. A moof that is longer takes one more
read."""
_MOST_BOXES = 16
"""Maximum number of top-level boxes for each fragment, on average."""
_MAX_READS = 16
_MAX_BOXES = 1024
_MAX_TOTAL = 1 << 62
"""Maximum size of a file, in bytes. The limit keeps each sum of two offsets within 64 bits."""
_FRAGMENT = frozenset({b"styp", b"prft", b"emsg", b"sidx", b"moof", b"mdat"})


class NoIndex(UnsupportedConversion):
    """Error: a fragmented file has no index that covers it, and its fragments cannot be found in advance."""

    def __init__(self) -> None:
        super().__init__(
            "One of the two formats is a fragmented MP4 without an index (sidx or mfra) that covers it, and its "
            f"fragments cannot be found with {MAX_WALK_READS} range requests in {WALK_SECONDS:g} seconds, so the "
            "formats cannot be merged."
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file: the bytes `first` to `end - 1`. `kept` is None unless the range is part of a search for
    fragments, which the caller may end. Then it is the number of bytes of earlier ranges that the search keeps."""

    first: int
    end: int
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """The boxes that `locate` found in an MP4 of `total` bytes: the moov, and, if the file is fragmented, the first
    moof and the index of the fragments. The index is the sidx if a single sidx before the first moof covers all
    fragments. Otherwise the index is the mfra at the end of the file, if the file has an mfra. The offsets in the sidx
    count from `sidx_end`, the offset after the sidx. `moofs` contains all moof boxes of the file if it has no usable
    index, or if an index does not suffice; otherwise it is None. `tail` contains the moof boxes from the last entry of
    the mfra on, because the mfra does not state when the tracks end."""

    total: int
    moov: bytes
    fragmented: bool
    sidx: bytes | None = None
    sidx_end: int = 0
    moof: bytes = b""
    moof_start: int = 0
    mfra: bytes = b""
    moofs: Moofs | None = None
    tail: Moofs | None = None


class _Window:
    """The bytes of the file that the last read returned, from the offset `first` on."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.reads = 0
        self.kept: int | None = None
        self.first = 0
        self.data = memoryview(b"")

    def box(self, at: int) -> Box | None:
        """Return the top-level box at offset `at` of the file; the offsets in the result also count from the beginning
        of the file. Returns None if the window does not contain the header of the box."""
        if not self.first <= at < self.first + len(self.data):
            return None
        found = box_at(self.data, at - self.first, self._total - self.first, may_be_open=True)
        if found is None:
            return None
        return Box(found.kind, at, found.body + self.first, found.end + self.first)

    def reach(self, at: int) -> Generator[Span, bytes | memoryview, Box | None]:
        """Return the box at offset `at`. Yields the range to read if the window does not contain the header of the box.
        Returns None if `at` is the end of the file."""
        box = self.box(at)
        if box is None and at + 8 <= self._total:
            yield from self.fetch(at, PROBE_BYTES)
            box = self.box(at)
        return box

    def fetch(self, first: int, length: int) -> Generator[Span, bytes | memoryview, None]:
        self.reads += 1
        if self.reads > _MAX_READS and self.kept is None:
            raise damaged("too many boxes precede the moov or moof box")
        if self.reads > MAX_WALK_READS:
            raise NoIndex
        end = min(first + length, self._total)
        self.data = memoryview(b"")  # do not hold two windows
        self.data = memoryview((yield Span(first, end, self.kept)))
        self.first = first
        if len(self.data) != end - first:
            raise damaged("the file is shorter than its boxes state")

    def holds(self, box: Box) -> bool:
        return self.first <= box.start <= box.end <= self.first + len(self.data)

    def whole(self, box: Box, most: int = MAX_INDEX_BYTES) -> Generator[Span, bytes | memoryview, bytes]:
        """Return all bytes of `box`. Yields the range to read if the window does not contain the box. Raises
        `UnsupportedConversion` if the box has more than `most` bytes."""
        if box.end - box.start > most:
            raise UnsupportedConversion(
                f"The {box.name} box of one of the two formats is larger than this server allows, so the formats "
                "cannot be merged."
            )
        if not self.holds(box):
            yield from self.fetch(box.start, max(box.end - box.start, PROBE_BYTES))
        return bytes(self.data[box.start - self.first : box.end - self.first])


def locate(total: int, handler: bytes | None = None) -> Generator[Span, bytes | memoryview, Located]:
    """Find the boxes that describe an MP4 of `total` bytes. If the file has several tracks, `handler` is the type of
    the track whose sidx is needed. Raises `UnsupportedConversion` if the file is not an MP4, if a box exceeds its
    maximum size, or if the fragments cannot be found; and `NotMedia` if the file is damaged. The caller may throw
    `UnsupportedConversion` into the generator if the search for fragments takes too long, or if a read fails."""
    if total > _MAX_TOTAL:
        raise damaged("the file is too long")
    window = _Window(total)
    yield from window.fetch(0, PROBE_BYTES)
    _check_first(window.data)
    moov, sidx, sidx_end, wanted = b"", None, 0, None
    at = 0
    for _ in range(_MAX_BOXES):
        box = yield from window.reach(at)
        if box is None:
            break
        if box.kind == b"moov":
            moov = yield from window.whole(box)
            if not is_fragmented(moov):
                return Located(total, moov, fragmented=False)
            if handler is not None and count_tracks(moov) > 1:
                wanted = find_track(moov, handler).number
        elif box.kind == b"sidx" and sidx is None:
            found = yield from window.whole(box)
            if wanted in (None, indexed_track(found)):
                sidx, sidx_end = found, box.end
        elif box.kind == b"moof" and moov:
            return (yield from _locate_fragments(window, total, moov, sidx, sidx_end, box))
        at = box.end
    raise damaged(f"a required {'moof' if moov else 'moov'} box is missing")


def _locate_fragments(
    window: _Window, total: int, moov: bytes, sidx: bytes | None, sidx_end: int, first: Box
) -> Generator[Span, bytes | memoryview, Located]:
    """Find the index of the fragments of an MP4 whose first moof is `first`. Reads all moof boxes in three cases: the
    file has no index; the first moof is so large that the fragments are too long to alternate with those of another
    track; or the moov lists samples, too."""
    moof = yield from window.whole(first, MAX_LARGE_MOOF_BYTES)
    if sidx is not None and not is_of_fragments(sidx):
        sidx = None
    if sidx is not None and (yield from _has_fragments_from(window, indexed_end(sidx, sidx_end))):
        sidx = None
    mfra = b"" if sidx is not None else (yield from _usable_mfra(window, total, first.start, count_tracks(moov)))
    found = Located(total, moov, True, sidx, sidx_end, moof, first.start, mfra)
    is_indexed = sidx is not None or bool(mfra)
    is_mixed = has_samples(moov)
    if is_indexed and not is_mixed and len(moof) <= MAX_MOOF_BYTES:
        return replace(found, tail=(yield from _tail(window, total, mfra))) if mfra else found
    try:
        moofs = yield from _walk(window, total, first, moof)
    except UnsupportedConversion:
        if is_mixed or not is_indexed:
            raise
        return found
    return replace(found, moofs=moofs)


def _usable_mfra(
    window: _Window, total: int, first_moof: int, tracks: int
) -> Generator[Span, bytes | memoryview, bytes]:
    """Return the mfra of the file if it shows where all fragments of `tracks` tracks are, or b"" if it does not. A
    damaged mfra, or one that is too long, is the same as none."""
    try:
        mfra = yield from _mfra(window, total)
        return mfra if lists_from(mfra, first_moof, tracks) else b""
    except (UnsupportedConversion, NotMedia):
        return b""


def _tail(window: _Window, total: int, mfra: bytes) -> Generator[Span, bytes | memoryview, Moofs | None]:
    """Return the moof boxes from the last entry of `mfra` on. Returns None if they cannot be read: the duration of the
    merged file is then less exact."""
    window.kept = 0  # from here on, the caller may end the search
    try:
        box = yield from window.reach(last_listed(mfra))
        return None if box is None else (yield from _walk(window, total, box))
    except (UnsupportedConversion, NotMedia):
        return None


def _walk(window: _Window, total: int, box: Box, moof: bytes = b"") -> Generator[Span, bytes | memoryview, Moofs]:
    """Return all moof boxes of the file from `box` on. `moof` contains the bytes of `box`, or nothing if they have not
    been read. Raises `NoIndex` if the search takes more than MAX_WALK_READS reads or MAX_INDEX_BYTES bytes."""
    data, starts, begin = bytearray(), array("Q"), box.start
    largest, seen = len(moof), 0
    while True:
        seen += 1
        if seen > _MOST_BOXES * (len(starts) + _MOST_BOXES):
            raise damaged("a fragmented file has too many boxes between its fragments")
        if box.kind == b"moof":
            data += moof or (yield from window.whole(box, MAX_LARGE_MOOF_BYTES))
            moof = b""
            starts.append(box.start)
            largest = max(largest, box.end - box.start)
            window.kept = len(data) + 8 * len(starts)
            if window.kept > MAX_INDEX_BYTES:
                raise NoIndex
        at = box.end
        if at + 8 > total:
            return Moofs(bytes(data), starts)
        ahead = window.box(at)
        if ahead is None or (ahead.kind == b"moof" and not window.holds(ahead)):
            done, end = (len(starts) - 1, box.start) if box.kind == b"moof" else (len(starts), at)
            step = (end - begin) // done if done else total
            is_dense = 2 * max(step, largest) <= WALK_BYTES
            if (total - at) // (WALK_BYTES if is_dense else step) > 2 * (MAX_WALK_READS - window.reads):
                raise NoIndex
            yield from window.fetch(at, WALK_BYTES if is_dense else min(max(_LEAST_BYTES, 2 * largest), _MOST_BYTES))
            ahead = window.box(at)
        if ahead is None:
            raise damaged("a box ends within its header")
        box = ahead


def _has_fragments_from(window: _Window, at: int) -> Generator[Span, bytes | memoryview, bool]:
    """Return whether the file has fragments after the offset `at`, the end of the bytes that the first sidx describes,
    or has no valid box there. There are such fragments if a separate sidx precedes each fragment, and there is no valid
    box if the sizes in the sidx are wrong."""
    with suppress(NotMedia):
        for _ in range(_MAX_BOXES):
            box = yield from window.reach(at)
            if box is None:
                return False
            if box.kind in _FRAGMENT:
                return True
            at = box.end
    return True


def _mfra(window: _Window, total: int) -> Generator[Span, bytes | memoryview, bytes]:
    """Return the bytes of the mfra box at the end of the file. The last 16 bytes of such a file are an mfro box, which
    states the length of the mfra. Returns b"" if the file has no mfra."""
    yield from window.fetch(max(0, total - MFRO_BYTES), MFRO_BYTES)
    length = mfra_bytes(bytes(window.data))
    if not 8 <= length <= total:
        return b""
    box = yield from window.reach(total - length)
    if box is None or box.kind != b"mfra" or box.end != total:
        return b""
    return (yield from window.whole(box))


def is_fragmented(moov: bytes) -> bool:
    """Return whether the file with this moov has its samples in fragments: an mvex box in the moov announces fragments
    (§8.8.1)."""
    data = memoryview(moov)
    box = box_at(data, 0, len(data))
    return box is not None and any(child.kind == b"mvex" for child in children(data, box))


def _check_first(data: memoryview) -> None:
    """Raise `UnsupportedConversion` if the file does not begin with a box, that is, if bytes 4 to 7 are not printable
    ASCII. The search trusts the sizes that the boxes state."""
    kind = bytes(data[4:8])
    if len(kind) < 4 or not all(32 <= byte < 127 for byte in kind):
        raise UnsupportedConversion(
            "One of the two formats is not an MP4, so the formats cannot be merged without a muxer."
        )
