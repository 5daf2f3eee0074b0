"""The gapless data of iTunes: how many samples at the beginning and at the end of an audio track are padding of the
encoder, which players skip. A merged MP4 states the same by an edit list (ISO/IEC 14496-12 §8.6.6), which all players
read.

The data is text in a metadata item `iTunSMPB` of the file: hexadecimal numbers, of which the second is the delay of the
encoder, the third the padding, and the fourth the number of samples between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from serverpy.errors import NotMedia
from serverpy.media.mp4.boxes import Box, by_kind, children

_NAME = b"iTunSMPB"
_NUMBERS = re.compile(rb"\s*[0-9A-Fa-f]{8}\s+([0-9A-Fa-f]{8})\s+([0-9A-Fa-f]{8})\s+([0-9A-Fa-f]{16})(?:\s|$)")
_VERSION_BYTES, _DATA_HEAD_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class Gapless:
    """The samples to play: `count` samples after the first `delay` samples. `padding` samples follow."""

    delay: int
    padding: int
    count: int

    def within(self, length: int) -> tuple[int, int] | None:
        """Return the media time of the first sample to play, and the duration to play, in units of the track's time
        scale. `length` is the duration of the media, or 0 if it is unknown. If the numbers do not fit the duration,
        but do so with two samples for each unit of time or two units for each sample, counts in this way, because the
        time scale of HE-AAC may be that of its core or of its output. Returns None if the numbers do not fit at all."""
        if not length:
            return (self.delay, self.count) if self.count else None
        stated = self.delay + self.padding + self.count
        for up, down in ((1, 1), (1, 2), (2, 1)):
            if abs(stated * up // down - length) <= _TOLERANCE:
                begin = self.delay * up // down
                return begin, min(self.count * up // down, length - begin)
        return None


_TOLERANCE = 4096
"""Maximum difference, in units of the track's time scale, between the stated number of samples and the duration of the
media. Two long frames have this duration."""


def read_gapless(data: memoryview, *parents: Box) -> Gapless | None:
    """Return the gapless data in the metadata (udta) of `parents`, a moov or a trak box. Returns None if there is none,
    or if the metadata is damaged."""
    for parent in parents:
        with suppress(NotMedia):
            for text in _texts(data, parent):
                if (found := _NUMBERS.match(text)) is not None:
                    delay, padding, count = (int(number, 16) for number in found.groups())
                    return Gapless(delay, padding, count)
    return None


def _texts(data: memoryview, parent: Box) -> Iterator[bytes]:
    """Yield the texts of the items iTunSMPB in udta/meta/ilst."""
    udta = by_kind(data, parent).get(b"udta")
    meta = None if udta is None else by_kind(data, udta).get(b"meta")
    items = None if meta is None else by_kind(data, meta, _VERSION_BYTES).get(b"ilst")
    for item in () if items is None else children(data, items):
        if item.kind == b"----":
            parts = by_kind(data, item)
            name, text = parts.get(b"name"), parts.get(b"data")
            if name is not None and text is not None and data[name.body + _VERSION_BYTES : name.end] == _NAME:
                yield bytes(data[text.body + _DATA_HEAD_BYTES : text.end])
