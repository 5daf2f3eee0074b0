"""The parser for the index of a fragmented track in a file without sidx: the list of random access points at the end of
the file (ISO/IEC 14496-12 §8.8.9 to §8.8.11, mfra). Each entry of the list has the time of a moof and the offset of
that moof in the file. A block of fragments extends from one listed moof to the next.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, children, damaged, fields
from serverpy.media.mp4.sidx import MAX_DURATION, MAX_REFERENCES, Index, Reference, too_many_blocks

MFRO_BYTES = 16
_SYNC = 0x90000000
"""Value of the SAP fields of a sidx reference (§8.16.3.3) for a block of fragments in which decoding may begin at the
first sample."""


def mfra_bytes(mfro: bytes) -> int:
    """Return the length, in bytes, of the mfra that ends with `mfro`. Returns 0 if `mfro` is not an mfro box."""
    size, kind, _, whole = struct.unpack(">I4sII", mfro)
    return whole if (size, kind) == (MFRO_BYTES, b"mfro") else 0


def lists_from(mfra: bytes, first_moof: int, tracks: int) -> bool:
    """Return whether `mfra` has at least `tracks` lists, and each begins with the moof at the offset `first_moof` of
    the file. Only then do the lists show where all fragments of each track are. Raises `NotMedia` if the box is
    damaged."""
    data = memoryview(mfra)
    box = box_at(data, 0, len(data))
    if box is None:
        return False
    firsts = [next(_entries(data, tfra), None) for tfra in children(data, box) if tfra.kind == b"tfra"]
    return len(firsts) >= tracks and all(entry is not None and entry[1] == first_moof for entry in firsts)


def last_listed(mfra: bytes) -> int:
    """Return the smallest of the offsets of the last moofs in the lists of `mfra`, which `lists_from` has accepted."""
    data = memoryview(mfra)
    box = box_at(data, 0, len(data))
    assert box is not None
    return min(list(_entries(data, tfra))[-1][1] for tfra in children(data, box) if tfra.kind == b"tfra")


def read_mfra(mfra: bytes, number: int, scale: int, first_moof: int, end: int, end_time: int | None = None) -> Index:
    """Parse the index of the track `number` from an mfra box that begins at offset `end` of the file. The times are in
    units of 1 / `scale` seconds. `end_time` is the time at which the track ends, which the box does not state, or None
    if it is unknown; the last block then lasts as long as the one before it. Raises `NotMedia` if the box is damaged,
    and `UnsupportedConversion` if the box does not list the first fragment."""
    data = memoryview(mfra)
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("the mfra box is invalid")
    points = dict[int, int]()
    for tfra in children(data, box):
        if tfra.kind == b"tfra" and fields("I", data, tfra, 4)[0] == number:
            for time, moof in _entries(data, tfra):
                points.setdefault(moof, time)
    places, times = list(points), list(points.values())
    if not places or places[0] != first_moof:
        raise UnsupportedConversion(
            "One of the two formats is a fragmented MP4 without an index (sidx or mfra), so the formats cannot be "
            "merged."
        )
    ends, later = [*places[1:], end], times[1:]
    if any(end <= place for place, end in zip(places, ends, strict=True)) or later != sorted(later):
        raise damaged("the entries of the mfra box are out of order")
    durations = [max(0, after - before) for before, after in zip(times, later, strict=False)]
    if end_time is None or end_time < times[-1]:
        durations.append(durations[-1] if durations else scale)
    else:
        durations.append(end_time - times[-1])
    if max(durations) > MAX_DURATION:
        raise damaged("a time in the mfra box is out of range")
    return Index(
        scale,
        tuple(
            Reference(place, end - place, time, duration, _SYNC)
            for place, end, time, duration in zip(places, ends, times, durations, strict=True)
        ),
        knows_end=len(places) > 1 or end_time is not None,
    )


def _entries(data: memoryview, tfra: Box) -> Iterator[tuple[int, int]]:
    """Yield the time and the offset of the moof from each entry of a tfra box."""
    version, lengths, count = fields("B7xII", data, tfra)
    if count > MAX_REFERENCES:
        raise too_many_blocks()
    numbers = sum(1 + (lengths >> shift & 3) for shift in (0, 2, 4))
    size = (16 if version else 8) + numbers
    if count * size > tfra.end - tfra.body - 16:
        raise damaged("the tfra box has fewer entries than it declares")
    for entry in range(count):
        time, moof = fields("QQ" if version else "II", data, tfra, 16 + entry * size)
        yield time, moof
