"""The search for the parts that describe an MP4 (its moov, and the index of its fragments), with few ranged reads.
Pure: `locate` is a generator that yields the ranges that it needs; its caller reads their bytes and sends them in.

The first 64 KiB hold the moov of most files, or at least the size of the boxes before it; one more read then gets the
moov.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from serverpy.errors import TooLarge, UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, children, damaged
from serverpy.media.mp4.mfra import MFRO_BYTES, mfra_bytes
from serverpy.media.mp4.sidx import indexed_end

PROBE_BYTES = 64 * 1024
MAX_INDEX_BYTES = 32 << 20
"""Maximum size of the moov (or index of fragments) of one file, in bytes."""
MAX_MOOF_BYTES = 64 * 1024
"""Maximum size of a moof, in bytes; that of a minute of video at 60 frames per second takes 58 KB."""
_MAX_READS = 16
_MAX_BOXES = 1024
_MAX_TOTAL = 1 << 62
"""Maximum size of a file: offsets have 64 bits, and sums of them must fit, too."""
_FRAGMENT = frozenset({b"styp", b"prft", b"emsg", b"sidx", b"moof", b"mdat"})


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: from `first` to before `end`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Located:
    """The boxes found in a file of `total` bytes: the moov, and, if the file is fragmented, the first moof and the
    index of the fragments. The index is the sidx if a single one before the first moof covers all fragments; otherwise
    the index is the mfra at the end of the file, if any. The offsets in the sidx count from `sidx_end`, the offset
    after the box."""

    total: int
    moov: bytes
    fragmented: bool
    sidx: bytes | None = None
    sidx_end: int = 0
    moof: bytes = b""
    moof_start: int = 0
    mfra: bytes = b""


class _Window:
    """A window on the file: the bytes of the last read."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._reads = 0
        self.first = 0
        self.data = memoryview(b"")

    def box(self, at: int) -> Box | None:
        """Return the top-level box at `at`; all offsets are those of the file. Returns None if the window does not
        contain the header of the box."""
        if not self.first <= at < self.first + len(self.data):
            return None
        found = box_at(self.data, at - self.first, self._total - self.first, may_be_open=True)
        if found is None:
            return None
        return Box(found.kind, at, found.body + self.first, found.end + self.first)

    def reach(self, at: int) -> Generator[Span, bytes, Box | None]:
        """Return the box at `at`. Yields a read if the window does not contain the header. Returns None at the end of
        the file."""
        box = self.box(at)
        if box is None and at + 8 <= self._total:
            yield from self.fetch(at, PROBE_BYTES)
            box = self.box(at)
        return box

    def fetch(self, first: int, length: int) -> Generator[Span, bytes, None]:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise damaged("finding its index takes too many reads")
        end = min(first + length, self._total)
        self.data = memoryview((yield Span(first, end)))
        self.first = first
        if len(self.data) != end - first:
            raise damaged("the file is shorter than its boxes state")

    def whole(self, box: Box) -> Generator[Span, bytes, bytes]:
        """Return all bytes of `box`. Yields a read if the window does not contain them."""
        if box.end - box.start > MAX_INDEX_BYTES:
            raise TooLarge("The index of this MP4 is larger than this server allows.")
        if not self.first <= box.start <= box.end <= self.first + len(self.data):
            yield from self.fetch(box.start, max(box.end - box.start, PROBE_BYTES))
        return bytes(self.data[box.start - self.first : box.end - self.first])


def locate(total: int) -> Generator[Span, bytes, Located]:
    """Find the boxes that describe the MP4 of `total` bytes. Raises `UnsupportedConversion` if the file is not an MP4,
    `NotMedia` if it is damaged, `TooLarge` if its index exceeds MAX_INDEX_BYTES."""
    if total > _MAX_TOTAL:
        raise damaged("its length is out of range")
    window = _Window(total)
    yield from window.fetch(0, PROBE_BYTES)
    _check_first(window.data)
    moov, sidx, sidx_end = b"", None, 0
    at = 0
    for _ in range(_MAX_BOXES):
        box = yield from window.reach(at)
        if box is None:
            break
        if box.kind == b"moov":
            moov = yield from window.whole(box)
            if not is_fragmented(moov):
                return Located(total, moov, fragmented=False)
        elif box.kind == b"sidx" and sidx is None:
            sidx, sidx_end = (yield from window.whole(box)), box.end
        elif box.kind == b"moof" and moov:
            moof = yield from _whole_moof(window, box)
            if sidx is not None and (yield from _has_fragments_from(window, indexed_end(sidx, sidx_end))):
                sidx = None
            mfra = b"" if sidx is not None else (yield from _mfra(window, total))
            return Located(total, moov, True, sidx, sidx_end, moof, box.start, mfra)
        at = box.end
    raise damaged(f"a required {'moof' if moov else 'moov'} box is missing")


def _has_fragments_from(window: _Window, at: int) -> Generator[Span, bytes, bool]:
    """Return whether there are fragments after `at`, the end of the index: some files have an index before each
    fragment, for that fragment only."""
    for _ in range(_MAX_BOXES):
        box = yield from window.reach(at)
        if box is None:
            return False
        if box.kind in _FRAGMENT:
            return True
        at = box.end
    return True


def _whole_moof(window: _Window, box: Box) -> Generator[Span, bytes, bytes]:
    if box.end - box.start > MAX_MOOF_BYTES:
        raise TooLarge("The fragments of this MP4 are larger than this server allows.")
    return (yield from window.whole(box))


def _mfra(window: _Window, total: int) -> Generator[Span, bytes, bytes]:
    """Return the mfra at the end of the file; the last 16 bytes of the file give its length. Returns b"" if there is
    none."""
    yield from window.fetch(max(0, total - MFRO_BYTES), MFRO_BYTES)
    length = mfra_bytes(bytes(window.data))
    if not 8 <= length <= total:
        return b""
    box = yield from window.reach(total - length)
    if box is None or box.kind != b"mfra" or box.end != total:
        return b""
    return (yield from window.whole(box))


def is_fragmented(moov: bytes) -> bool:
    """Return whether the samples are in fragments (§8.8.1: mvex)."""
    data = memoryview(moov)
    box = box_at(data, 0, len(data))
    return box is not None and any(child.kind == b"mvex" for child in children(data, box))


def _check_first(data: memoryview) -> None:
    """Check that the bytes look like boxes, because the search trusts the sizes in them."""
    kind = bytes(data[4:8])
    if len(kind) < 4 or not all(32 <= byte < 127 for byte in kind):
        raise UnsupportedConversion("One of the two formats is not an MP4: they cannot be merged without a muxer.")
