"""Pure functions that make the head of one fragmented MP4 from the initialization sections (DASH: initialization
segments) of two segmented tracks, video and audio.

The head states the durations of the tracks, because the merged file has neither a manifest nor an index that could
state them. Players read the duration from different boxes: according to measurements, libav and Chromium from mdhd,
Firefox only from mehd, and VLC from any of these boxes (`durations.py`). Therefore the head states the durations in all
of these boxes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, boxes, by_kind, children, damaged, fields, need, write
from serverpy.media.mp4.durations import write_mehd
from serverpy.media.mp4.fragments import write_empty_table, write_trex
from serverpy.media.mp4.header import movie_scale, write_ftyp, write_moov
from serverpy.media.mp4.tracks import Track, count_tracks, find_track
from serverpy.media.mp4.trex import Defaults, defaults_of

_UNKNOWN_32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Section:
    """The content of an initialization section that describes `track`. `default_duration`, in units of the track's time
    scale, is the duration of samples for which the fragment states no duration."""

    track: Track
    default_duration: int
    others: dict[int, Defaults] | None = None
    """The defaults (trex) of all tracks of the source, if it has more tracks than `track`."""

    @property
    def number(self) -> int:
        """The number of the track in its source."""
        return self.track.number

    @property
    def has_others(self) -> bool:
        """Whether the source has more tracks than `track`."""
        return self.others is not None

    @property
    def scale(self) -> int:
        return self.track.scale

    def fits(self, other: Section) -> bool:
        """Return whether a file that begins with the moov of `other` can contain fragments of this section. The time
        scales, the defaults (trex) and the sample descriptions must be equal; only the bit rates in the descriptions
        may differ."""
        return self._signature() == other._signature()

    def _signature(self) -> tuple[int, bytes, list[bytes]]:
        track = self.track
        trex = b"" if track.trex is None else bytes(track.data[track.trex.body + 8 : track.trex.end])
        return track.scale, trex, [_description(track, entry) for entry in track.entries]


def _description(track: Track, entry: Box) -> bytes:
    """Return a sample entry (§8.5.2) without the bit rates, because no decoder needs them."""
    inside = min(entry.body + track.entry_fields, entry.end)
    parts = [bytes(track.data[entry.start + 4 : inside])]
    for box in boxes(track.data, inside, entry.end):
        content = bytes(track.bytes_of(box))
        if box.kind == b"esds":
            content = _BIT_RATES.sub(rb"\1", content, count=1)
        if box.kind != b"btrt":
            parts.append(content)
    return b"".join(parts)


_BIT_RATES = re.compile(rb"(\x04(?:[\x80-\xff]{3})?.\x40\x15).{11}", re.DOTALL)
"""Pattern of the DecoderConfigDescriptor of AAC (ISO/IEC 14496-1 §7.2.6.6). The group is the beginning up to the stream
type; the buffer size and the bit rates follow the group."""


def read_section(moov: bytes, handler: bytes) -> Section:
    """Read the first track of the type `handler` (video or audio) from `moov`, the moov of an initialization section.
    Raises `UnsupportedConversion` if `moov` has no such track, or if `moov` does not belong to a fragmented MP4,
    `DrmProtected` if the track is encrypted, and `NotMedia` if `moov` is damaged."""
    track = find_track(moov, handler)
    if track.trex is None:
        raise UnsupportedConversion("One of the two formats is not a fragmented MP4, so the formats cannot be merged.")
    if track.is_quicktime:
        raise UnsupportedConversion(
            "The audio has a QuickTime sample description, so video and audio cannot be merged."
        )
    sizes = track.samples.get(b"stsz")
    if sizes is not None and fields("I", track.data, sizes, 8)[0]:
        raise UnsupportedConversion(
            "One of the two formats has samples both in its moov box and in fragments, so the formats cannot be merged."
        )
    others = defaults_of(moov) if count_tracks(moov) > 1 else None
    return Section(track, fields("I", track.data, track.trex, 12)[0], others)


def write_head(sections: Sequence[Section], seconds: Sequence[float | None], end: float | None) -> bytes:
    """Return the ftyp and the moov of the file that is merged from the tracks of `sections`. The tracks get the numbers
    1, 2 and so on. `seconds` are the durations of the tracks, and `end` is the time, in seconds, at which the last
    track ends. If the duration of a track or the end is None, the moov keeps the durations that the sections state."""
    tracks = [section.track for section in sections]
    scale = movie_scale(tracks)
    mehd = [] if end is None else [write_mehd(end, scale)]
    trex = [write_trex(number, track) for number, track in enumerate(tracks, 1)]
    moov = bytearray(write_moov(tracks, map(write_empty_table, tracks), write(b"mvex", *mehd, *trex)))
    _state_durations(moov, scale, end, seconds)
    return write_ftyp(fragmented=True) + bytes(moov)


def _state_durations(moov: bytearray, scale: int, end: float | None, seconds: Sequence[float | None]) -> None:
    """Write the duration `end` into the mvhd box, and the durations `seconds` into the tkhd and mdhd boxes of the
    tracks. If a duration is None, leaves its fields unchanged."""
    data = memoryview(bytes(moov))
    movie = box_at(data, 0, len(data))
    assert movie is not None
    if end is not None:
        _state(moov, data, need(by_kind(data, movie), b"mvhd"), scale, end)
    traks = [box for box in children(data, movie) if box.kind == b"trak"]
    for trak, own in zip(traks, seconds, strict=True):
        if own is not None:
            parts = by_kind(data, trak)
            mdhd = need(by_kind(data, need(parts, b"mdia")), b"mdhd")
            at = 20 if fields("B", data, mdhd)[0] else 12
            _state(moov, data, need(parts, b"tkhd"), scale, own, between=4)
            _state(moov, data, mdhd, fields("I", data, mdhd, at)[0], own)


def _state(moov: bytearray, data: memoryview, box: Box, scale: int, seconds: float, between: int = 0) -> None:
    """Write the duration `seconds` into `box`, an mvhd, tkhd or mdhd box. The three boxes have the same fields before
    the duration, except that tkhd has `between` reserved bytes there. If the duration is too large for its field, the
    value for "unknown" is written."""
    (version,) = fields("B", data, box)
    if version > 1:
        raise damaged(f"the {box.name} box has an unknown version")
    duration = round(seconds * scale)
    at = box.body + (20 if version else 12) + 4 + between
    if version:
        struct.pack_into(">Q", moov, at, duration)
    else:
        struct.pack_into(">I", moov, at, min(duration, _UNKNOWN_32))
