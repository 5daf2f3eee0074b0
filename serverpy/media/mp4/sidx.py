"""The index of a fragmented track: which bytes hold which time (ISO/IEC 14496-12 §8.16.3, sidx), read and written."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from serverpy.errors import TooLarge, UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, damaged, fields, table, write_full

_OTHER_INDEX = 1 << 31
"""The bit of a reference that leads to another sidx; the other 31 are its size."""
MAX_REFERENCE_BYTES = _OTHER_INDEX - 1
MAX_DURATION = (1 << 32) - 1
MAX_TIME = (1 << 64) - 1
MAX_REFERENCES = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class Reference:
    """A block of fragments: its bytes in the file, when it is first shown, in units of the index's scale, and for how
    long. `access` tells where in it a decoder may begin, as found."""

    offset: int
    size: int
    time: int
    duration: int
    access: int


@dataclass(frozen=True, slots=True)
class Index:
    scale: int
    references: tuple[Reference, ...]


def read_sidx(sidx: bytes, anchor: int, total: int) -> Index:
    """The index in a sidx box that counts from `anchor`. Raises `NotMedia` where it leads beyond `total`,
    `UnsupportedConversion` for an index of indices."""
    data = memoryview(sidx)
    box = _whole(data)
    at, scale, time, ahead, count = _head(data, box)
    if scale == 0:
        raise damaged("its index has a time scale of 0")
    offset, references = anchor + ahead, list[Reference]()
    for number in range(count):
        size, duration, access = fields("III", data, box, at + 12 * number)
        if size & _OTHER_INDEX:
            raise UnsupportedConversion("The fragments of one of the two formats are indexed in several steps.")
        if offset + size > total:
            raise damaged("its index leads beyond its end")
        if time > MAX_TIME:
            raise damaged("its times are beyond all bounds")
        if size:
            references.append(Reference(offset, size, time, duration, access))
        offset += size
        time += duration
    if not references:
        raise damaged("its index is empty")
    return Index(scale, tuple(references))


def indexed_end(sidx: bytes, anchor: int) -> int:
    """Where that ends of which a sidx box tells that counts from `anchor`. Raises `NotMedia`."""
    data = memoryview(sidx)
    box = _whole(data)
    at, _, _, ahead, count = _head(data, box)
    return anchor + ahead + sum(size & MAX_REFERENCE_BYTES for size in table("I", data, box, at, 3 * count)[::3])


def _whole(data: memoryview) -> Box:
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("its index cannot be read")
    return box


def _head(data: memoryview, box: Box) -> tuple[int, int, int, int, int]:
    """Where the references begin in the box; scale, first time, bytes before the first block, number of references."""
    (version,) = fields("B", data, box)
    scale, time, ahead, count = fields("IQQ2xH" if version else "III2xH", data, box, 8)
    return 32 if version else 24, scale, time, ahead, count


def too_many_blocks() -> TooLarge:
    return TooLarge("The fragments of one of the two formats are more, or larger, than an index can tell of.")


def sidx_bytes(count: int) -> int:
    """The length of what `write_sidx` gives."""
    return 40 + 12 * count


def write_sidx(number: int, index: Index, places: Sequence[int], end: int, ahead: int) -> bytes:
    """The index of the track `number` whose blocks stand at `places`. Each reference reaches to the next block of the
    track, the last to `end`: what stands between belongs to the other track. `ahead` are the bytes from the end of
    this box to the first block."""
    sizes = [after - before for before, after in zip(places, [*places[1:], end], strict=True)]
    if max(sizes) > MAX_REFERENCE_BYTES or len(sizes) > MAX_REFERENCES:
        raise too_many_blocks()
    entries = b"".join(
        struct.pack(">III", size, reference.duration, reference.access)
        for size, reference in zip(sizes, index.references, strict=True)
    )
    head = struct.pack(">IIQQ2xH", number, index.scale, index.references[0].time, ahead, len(sizes))
    return write_full(b"sidx", 1, 0, head, entries)
