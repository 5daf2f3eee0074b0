"""The conversion of QuickTime's sound descriptions of version 1 to sample entries of MP4 (ISO/IEC 14496-12 §12.2.3).

A sound description has 16 bytes of fields more than a sample entry of MP4, and contains the configuration of the
decoder (esds) in a `wave` box.
"""

from __future__ import annotations

import struct

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, boxes, children, fields, sample_entries, write, write_full

_FIELDS, _MORE_FIELDS = 28, 16


def is_quicktime(data: memoryview, stsd: Box) -> bool:
    """Return whether an stsd box of audio has an entry of QuickTime's version 1 or 2. The entries of version 1 that MP4
    itself defines differ: these occur only in an stsd box of version 1."""
    if fields("B", data, stsd)[0]:
        return False
    return any(fields("H", data, entry, 8)[0] for entry in sample_entries(data, stsd))


def as_mp4(data: memoryview, stsd: Box) -> bytes:
    """Return the stsd box with its entries converted to those of MP4. Raises `UnsupportedConversion` if an entry has no
    esds, or has version 2."""
    entries = [_entry(data, entry) for entry in sample_entries(data, stsd)]
    return write_full(b"stsd", 0, 0, struct.pack(">I", len(entries)), *entries)


def _entry(data: memoryview, entry: Box) -> bytes:
    version, _, _, channels, bits = fields("HHIHH", data, entry, 8)
    if version == 0:
        return bytes(data[entry.start : entry.end])
    (rate,) = fields("I", data, entry, 24)
    esds = _esds(data, entry.body + _FIELDS + _MORE_FIELDS, entry.end) if version == 1 else None
    if esds is None:
        raise UnsupportedConversion(
            "The audio has a QuickTime sample description, so video and audio cannot be merged."
        )
    reference = bytes(data[entry.body : entry.body + 8])
    return write(entry.kind, reference, struct.pack(">8xHH4xI", channels, bits, rate), bytes(esds))


def _esds(data: memoryview, first: int, end: int) -> memoryview | None:
    """Return the esds box that lies between the offsets `first` and `end`, directly or inside a `wave` box."""
    outside = list(boxes(data, min(first, end), end))
    inside = [child for box in outside if box.kind == b"wave" for child in children(data, box)]
    return next((data[box.start : box.end] for box in (*outside, *inside) if box.kind == b"esds"), None)
