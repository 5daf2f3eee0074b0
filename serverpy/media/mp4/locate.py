"""The search for the boxes that describe an MP4 (the moov, and the sidx or mfra that indexes the fragments), with few
range requests. The functions are pure: `locate` is a generator that yields each range that it needs, and its caller
reads the bytes of the range and passes them to `send`.

The first 64 KiB of most files contain the moov, or at least the headers of the boxes before the moov. In the second
case, one more read gets the moov.
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
"""Maximum size, in bytes, of the moov of a file. The same limit applies to the sidx or mfra, which index the file's
fragments."""
MAX_MOOF_BYTES = 64 * 1024
"""Maximum size of a moof, in bytes. The moof of a fragment with one minute of video at 60 frames per second takes 58
KB."""
_MAX_READS = 16
_MAX_BOXES = 1024
_MAX_TOTAL = 1 << 62
"""Maximum size of a file, in bytes. The limit keeps each sum of two offsets within 64 bits."""
_FRAGMENT = frozenset({b"styp", b"prft", b"emsg", b"sidx", b"moof", b"mdat"})


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file: the bytes `first` to `end - 1`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Located:
    """The boxes that `locate` found in an MP4 of `total` bytes: the moov, and, if the file is fragmented, the first
    moof and the index of the fragments. The index is the sidx if a single sidx before the first moof covers all
    fragments. Otherwise the index is the mfra at the end of the file, if the file has an mfra. The offsets in the sidx
    count from `sidx_end`, the offset after the sidx."""

    total: int
    moov: bytes
    fragmented: bool
    sidx: bytes | None = None
    sidx_end: int = 0
    moof: bytes = b""
    moof_start: int = 0
    mfra: bytes = b""


class _Window:
    """The bytes of the file that the last read returned, from the offset `first` on."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._reads = 0
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
        self._reads += 1
        if self._reads > _MAX_READS:
            raise damaged("too many boxes precede the moov or moof box")
        end = min(first + length, self._total)
        self.data = memoryview((yield Span(first, end)))
        self.first = first
        if len(self.data) != end - first:
            raise damaged("the file is shorter than its boxes state")

    def whole(self, box: Box) -> Generator[Span, bytes | memoryview, bytes]:
        """Return all bytes of `box`. Yields the range to read if the window does not contain the box."""
        if box.end - box.start > MAX_INDEX_BYTES:
            raise TooLarge(
                "The index (moov, sidx or mfra) of this MP4 is larger than this server allows: choose a single format."
            )
        if not self.first <= box.start <= box.end <= self.first + len(self.data):
            yield from self.fetch(box.start, max(box.end - box.start, PROBE_BYTES))
        return bytes(self.data[box.start - self.first : box.end - self.first])


def locate(total: int) -> Generator[Span, bytes | memoryview, Located]:
    """Find the boxes that describe an MP4 of `total` bytes. Raises `UnsupportedConversion` if the file is not an MP4,
    `NotMedia` if it is damaged, and `TooLarge` if the moov, sidx or mfra exceeds MAX_INDEX_BYTES or the first moof
    exceeds MAX_MOOF_BYTES."""
    if total > _MAX_TOTAL:
        raise damaged("the file is too long")
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


def _has_fragments_from(window: _Window, at: int) -> Generator[Span, bytes | memoryview, bool]:
    """Return whether the file has fragments after the offset `at`, the end of the bytes that the first sidx describes.
    This is so if a sidx that describes only one fragment precedes each fragment."""
    for _ in range(_MAX_BOXES):
        box = yield from window.reach(at)
        if box is None:
            return False
        if box.kind in _FRAGMENT:
            return True
        at = box.end
    return True


def _whole_moof(window: _Window, box: Box) -> Generator[Span, bytes | memoryview, bytes]:
    if box.end - box.start > MAX_MOOF_BYTES:
        raise TooLarge("The fragments of this MP4 are larger than this server allows.")
    return (yield from window.whole(box))


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
