"""Builder of initialization sections of fragmented MP4s, box by box, and a reader of the durations that such sections
state."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from serverpy.media.mp4.boxes import boxes, write, write_full

MOVIE_SCALE, SCALE = 1000, 48000
CONTAINERS = {b"moov", b"trak", b"mdia", b"mvex"}
TIMED = {b"mvhd", b"tkhd", b"mdhd", b"mehd"}


def wide(kind: bytes, content: bytes) -> bytes:
    """Return a box with a 64-bit size."""
    return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content


def header(kind: bytes, version: int, scale: int, duration: int) -> bytes:
    """Return an mvhd or mdhd box that has 80 zero bytes in place of the fields after its duration."""
    layout = ">QQIQ" if version == 1 else ">IIII"
    return write_full(kind, version, 0, struct.pack(layout, 1, 2, scale, duration), bytes(80))


@dataclass(frozen=True)
class Section:
    """An initialization section. The fields are the durations in the boxes. If `mehd` or `tkhd` is None, the section
    has no such box."""

    version: int = 0
    mvhd: int = 0
    mdhd: tuple[int, ...] = (0,)
    tkhd: int | None = None
    mehd: int | None = None
    mehd_version: int = 0
    movie_scale: int = MOVIE_SCALE
    scale: int = SCALE
    has_mvex: bool = True
    is_wide: bool = False
    chunks: int = 0
    after: bytes = b""

    def __bytes__(self) -> bytes:
        box = wide if self.is_wide else write
        mvhd = header(b"mvhd", self.version, self.movie_scale, self.mvhd)
        inside = mvhd + b"".join(box(b"trak", self._tkhd() + self._mdia(each)) for each in self.mdhd)
        if self.has_mvex:
            trex = write_full(b"trex", 0, 0, bytes(20))
            inside += box(b"mvex", (b"" if self.mehd is None else self._mehd(self.mehd)) + trex)
        return write(b"ftyp", b"iso5", bytes(4)) + box(b"moov", inside + write(b"udta", b"by a test")) + self.after

    def _tkhd(self) -> bytes:
        if self.tkhd is None:
            return b""
        times, duration = ("16x", "Q") if self.version else ("8x", "I")
        return write_full(b"tkhd", self.version, 7, struct.pack(f">{times}I4x{duration}60x", 1, self.tkhd))

    def _mdia(self, duration: int) -> bytes:
        stco = write_full(b"stco", 0, 0, struct.pack(">I", self.chunks), bytes(4 * self.chunks))
        return write(b"mdia", header(b"mdhd", self.version, self.scale, duration), write(b"minf", write(b"stbl", stco)))

    def _mehd(self, duration: int) -> bytes:
        layout = ">Q" if self.mehd_version else ">I"
        return write_full(b"mehd", self.mehd_version, 0, struct.pack(layout, duration))


def stated(section: bytes) -> dict[bytes, list[int]]:
    """Return the durations in the boxes of a section, by the kind of the box. Raises NotMedia if the sizes of the boxes
    are inconsistent."""
    found: dict[bytes, list[int]] = {}
    for kind, content in walk(section):
        width = 8 if content[0] else 4
        at = {b"mehd": 4, b"tkhd": 4 + 2 * width + 8}.get(kind, 4 + 2 * width + 4)
        found.setdefault(kind, []).append(int.from_bytes(content[at : at + width], "big"))
    return found


def walk(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each box that has a duration."""
    for box in boxes(memoryview(section), 0, len(section)):
        if box.kind in CONTAINERS:
            yield from walk(section[box.body : box.end])
        elif box.kind in TIMED:
            yield box.kind, section[box.body : box.end]
