"""The removal of the track fragments (traf) of other tracks from a moof (ISO/IEC 14496-12 §8.8), for a file that has
one of the tracks only. The function is pure.

The moof keeps its length, because the index of the file states the positions of the fragments: a removed traf becomes a
`free` box. The data of the other tracks stays after the moof, where nothing refers to it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, damaged, fields
from serverpy.media.mp4.fragment_runs import BASE_IS_MOOF, DATA_OFFSET, Traf, read_trafs
from serverpy.media.mp4.trex import Defaults

_FIELD_BYTES = 4
_LARGEST = (1 << 31) - 1


def with_own_trafs(moof: bytes, start: int, number: int, defaults: Mapping[int, Defaults]) -> bytes:
    """Return a copy of `moof`, which begins at the offset `start` of its file, without the trafs of other tracks than
    `number`. `defaults` are those of all tracks of the file. A traf without a base data offset, whose data begins where
    that of a removed traf ends (§8.8.7), gets data offsets that count from the moof. Raises `UnsupportedConversion` if
    these do not fit into the box, and `NotMedia` if the moof is damaged."""
    data, changed = memoryview(moof), bytearray(moof)
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("a fragment has an invalid moof box")
    removed = None  # the last removed traf, while the data of the next one would begin elsewhere
    for traf in read_trafs(data, box, start, defaults):
        if traf.number != number:
            changed[traf.box.start + 4 : traf.box.start + 8] = b"free"
            removed = traf.box
        elif not traf.header.is_implicit:
            removed = None
        elif removed is not None and traf.runs:
            _count_from_moof(changed, data, traf, traf.base - start, removed)
            removed = None
    return bytes(changed)


def _count_from_moof(changed: bytearray, data: memoryview, traf: Traf, base: int, removed: Box) -> None:
    """Make the data offsets of `traf` count from the moof. They have counted from the position that lies `base` bytes
    after the beginning of the moof. If the first run has no data offset, adds one, and shortens `removed`, the `free`
    box before `traf`, by the size of the field."""
    header = next(box for box in traf.inside if box.kind == b"tfhd")
    struct.pack_into(">I", changed, header.body, fields("I", data, header)[0] | BASE_IS_MOOF)
    for number, (box, run, _) in enumerate(traf.runs):
        if run.data_offset is None and number:
            continue
        offset = base + (run.data_offset or 0)
        if not -_LARGEST <= offset <= _LARGEST:
            raise _does_not_fit()
        if run.data_offset is not None:
            struct.pack_into(">i", changed, box.body + 8, offset)
        else:
            _insert_offset(changed, traf.box, box, removed, offset)


def _insert_offset(changed: bytearray, traf: Box, trun: Box, removed: Box, offset: int) -> None:
    """Add the data offset `offset` to `trun`, the first trun box of `traf`. Raises `UnsupportedConversion` if `removed`
    does not end where `traf` begins, or if a box has a size of 64 bits."""
    if removed.end != traf.start or any(box.body - box.start != 8 for box in (removed, traf, trun)):
        raise _does_not_fit()
    for box, grown in ((removed, -_FIELD_BYTES), (traf, _FIELD_BYTES), (trun, _FIELD_BYTES)):
        struct.pack_into(">I", changed, box.start, box.end - box.start + grown)
    changed[trun.body + 3] |= DATA_OFFSET
    behind = trun.body + 8
    changed[removed.end - _FIELD_BYTES : behind] = changed[removed.end : behind] + struct.pack(">i", offset)


def _does_not_fit() -> UnsupportedConversion:
    return UnsupportedConversion(
        "In one of the two formats, the data offset of a traf box depends on the traf box of another track, so the "
        "formats cannot be merged."
    )
