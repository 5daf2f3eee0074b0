"""The parser and the writer of the index of a fragmented track (sidx, ISO/IEC 14496-12 §8.16.3), which maps times to
byte ranges."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, damaged, fields, table, write_full

_OTHER_INDEX = 1 << 31
"""The bit of a reference that marks it as a reference to another sidx; the other 31 bits are the size of the referenced
bytes."""
MAX_REFERENCE_BYTES = _OTHER_INDEX - 1
MAX_DURATION = (1 << 32) - 1
MAX_TIME = (1 << 64) - 1
MAX_REFERENCES = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class Reference:
    """A block of fragments: its offset and size in the file, in bytes, and its presentation time and duration, in units
    of 1 / `Index.scale` seconds. `access` contains the SAP fields of the reference, which state where in the block
    decoding may begin."""

    offset: int
    size: int
    time: int
    duration: int
    access: int


@dataclass(frozen=True, slots=True)
class Index:
    """The blocks of a track, with times in units of 1 / `scale` seconds. `knows_end` states whether the duration of the
    last block is known, at least approximately."""

    scale: int
    references: tuple[Reference, ...]
    knows_end: bool = True

    @property
    def end_seconds(self) -> float | None:
        """The time at which the track ends, in seconds, or None if that time is unknown."""
        last = self.references[-1]
        return (last.time + last.duration) / self.scale if self.knows_end else None


def read_sidx(sidx: bytes, anchor: int, total: int) -> Index:
    """Parse a sidx box whose offsets count from the offset `anchor` of the file. Raises `NotMedia` if a block of
    fragments lies beyond `total`, the size of the file, and `UnsupportedConversion` if the box refers to other sidx
    boxes."""
    data = memoryview(sidx)
    box = _whole(data)
    at, scale, time, ahead, count = _head(data, box)
    if scale == 0:
        raise damaged("the fragment index (sidx) has a time scale of 0")
    offset, references = anchor + ahead, list[Reference]()
    for number in range(count):
        size, duration, access = fields("III", data, box, at + 12 * number)
        if size & _OTHER_INDEX:
            raise UnsupportedConversion(
                "One of the two formats has a sidx box that refers to other sidx boxes, so the formats cannot be "
                "merged."
            )
        if offset + size > total:
            raise damaged("the fragment index (sidx) points beyond the end of the file")
        if time > MAX_TIME:
            raise damaged("a timestamp in the fragment index (sidx) is out of range")
        if size:
            references.append(Reference(offset, size, time, duration, access))
        offset += size
        time += duration
    if not references:
        raise damaged("the fragment index (sidx) is empty")
    return Index(scale, tuple(references))


def is_of_fragments(sidx: bytes) -> bool:
    """Return whether no reference of a sidx box refers to another sidx box. Raises `NotMedia` if the box is invalid."""
    data = memoryview(sidx)
    box = _whole(data)
    at, _, _, _, count = _head(data, box)
    return not any(size & _OTHER_INDEX for size in table("I", data, box, at, 3 * count)[::3])


def indexed_track(sidx: bytes) -> int:
    """Return the number of the track that a sidx box describes. Raises `NotMedia` if the box is invalid."""
    data = memoryview(sidx)
    return fields("I", data, _whole(data), 4)[0]


def indexed_end(sidx: bytes, anchor: int) -> int:
    """Return the offset in the file at which the bytes that a sidx box describes end. The offsets in the box count from
    the offset `anchor` of the file. Raises `NotMedia` if the box is invalid."""
    data = memoryview(sidx)
    box = _whole(data)
    at, _, _, ahead, count = _head(data, box)
    return anchor + ahead + sum(size & MAX_REFERENCE_BYTES for size in table("I", data, box, at, 3 * count)[::3])


def _whole(data: memoryview) -> Box:
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("the fragment index (sidx) is invalid")
    return box


def _head(data: memoryview, box: Box) -> tuple[int, int, int, int, int]:
    """Return the first fields of a sidx box: the offset of the references within the box, the time scale, the earliest
    time, the distance from the anchor to the first referenced byte, and the number of references."""
    (version,) = fields("B", data, box)
    scale, time, ahead, count = fields("IQQ2xH" if version else "III2xH", data, box, 8)
    return 32 if version else 24, scale, time, ahead, count


def too_many_blocks() -> UnsupportedConversion:
    return UnsupportedConversion(
        "The fragments of one of the two formats are too many or too large for an index (sidx), so the formats cannot "
        "be merged."
    )


def sidx_bytes(count: int) -> int:
    """Return the length, in bytes, of a sidx box with `count` references."""
    return 40 + 12 * count


def write_sidx(number: int, index: Index, places: Sequence[int], end: int, ahead: int) -> bytes:
    """Return the sidx box of the track `number`. The blocks of fragments of that track are at the offsets `places` of
    the merged file. A reference extends to the next block of the track, and the last reference extends to the offset
    `end`, so references cover bytes of the other track, too. `ahead` is the number of bytes between the end of this
    sidx box and the first block."""
    sizes = [after - before for before, after in zip(places, [*places[1:], end], strict=True)]
    if max(sizes) > MAX_REFERENCE_BYTES or len(sizes) > MAX_REFERENCES:
        raise too_many_blocks()
    entries = b"".join(
        struct.pack(">III", size, reference.duration, reference.access)
        for size, reference in zip(sizes, index.references, strict=True)
    )
    head = struct.pack(">IIQQ2xH", number, index.scale, index.references[0].time, ahead, len(sizes))
    return write_full(b"sidx", 1, 0, head, entries)
