"""The durations in the initialization section (DASH: initialization segment) and the media segments of a fragmented MP4
(ISO/IEC 14496-12 §8.8). Many packagers write 0 as each duration, because the manifest states the duration. A client
that gets the segments as one file has no manifest, so ServerPY writes the durations into the segments. The functions
are pure.

Players read the duration from different boxes. According to measurements, libav and Chromium read mdhd or, if the
segments have a sidx, the sidx of the latest segment; Firefox reads only mehd. These three do not need tkhd. ExoPlayer
needs tkhd if the file has no mehd.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from serverpy.errors import NotMedia
from serverpy.media.mp4.boxes import Box, box_at, by_kind, children, damaged, fields, need, write_full

_MAX_OFFSET = 1 << 63
_OFFSETS = (b"stco", b"co64")
_BEFORE_FRAGMENT = frozenset({b"styp", b"sidx", b"ssix", b"prft", b"emsg", b"free"})
_WIDTHS = {4: ">I", 8: ">Q"}


def write_mehd(seconds: float, scale: int) -> bytes:
    """Return a mehd box (§8.8.2), which states `seconds` as the duration of the movie with all its fragments. `scale`
    is the movie's time scale."""
    return write_full(b"mehd", 1, 0, struct.pack(">Q", round(seconds * scale)))


def with_duration(section: bytes, seconds: float, *, may_grow: bool) -> bytes:
    """Return the initialization section with the duration `seconds` in each mvhd, tkhd, mdhd and mehd box whose
    duration field is 0 or all ones. Does not write a duration that is too large for its field. If `section` has
    neither a mehd nor samples, and `may_grow` is true, inserts a mehd. Returns `section` unchanged if it is
    damaged, announces no fragments (mvex), or does not contain its whole moov."""
    try:
        movie = _find_moov(memoryview(section))
        return section if movie is None else _with_duration(section, movie, seconds, may_grow=may_grow)
    except NotMedia:
        return section


def without_index(segment: bytes) -> bytes:
    """Return `segment`, the beginning of a segment, with each sidx box (§8.16.3) before the first fragment turned into
    a `free` box. Such a sidx covers only this segment, but players take the end of its last reference for the end of
    the file. Returns `segment` unchanged if it has no such sidx."""
    data, filled, at = memoryview(segment), bytearray(), 0
    with suppress(NotMedia):  # the rest of `segment` is the beginning of a larger box
        while (box := box_at(data, at, len(data))) is not None and box.kind in _BEFORE_FRAGMENT:
            if box.kind == b"sidx":
                filled = filled or bytearray(segment)
                filled[at + 4 : at + 8] = b"free"
            at = box.end
    return bytes(filled) if filled else segment


def _find_moov(data: memoryview) -> Box | None:
    """Return the moov box. Returns None if `data` has no moov or ends before the end of the moov."""
    at = 0
    while (box := box_at(data, at, _MAX_OFFSET)) is not None:
        if box.kind == b"moov":
            return box if box.end <= len(data) else None
        at = box.end
    return None


def _with_duration(section: bytes, movie: Box, seconds: float, *, may_grow: bool) -> bytes:
    data, filled = memoryview(section), bytearray(section)
    inside = by_kind(data, movie)
    if b"mvex" not in inside:
        return section
    extends, mvhd = inside[b"mvex"], need(inside, b"mvhd")
    has_samples = False
    scale = _fill_header(data, filled, mvhd, seconds)
    for trak in children(data, movie):
        if trak.kind == b"trak":
            parts = by_kind(data, trak)
            media = by_kind(data, need(parts, b"mdia"))
            if (tkhd := parts.get(b"tkhd")) is not None:  # §8.3.2: its duration is in the time scale of the movie
                at, width = (28, 8) if _version(data, tkhd) else (20, 4)
                _fill(data, filled, tkhd, at, width, round(seconds * scale))
            _fill_header(data, filled, need(media, b"mdhd"), seconds)
            has_samples = has_samples or _has_samples(data, need(media, b"minf"))
    mehd = by_kind(data, extends).get(b"mehd")
    if mehd is not None:
        at, width = (4, 8) if _version(data, mehd) else (4, 4)
        _fill(data, filled, mehd, at, width, round(seconds * scale))
    elif may_grow and not has_samples:  # an inserted box would move samples that lie after the moov
        _insert(filled, write_mehd(seconds, scale), extends, movie)
    return bytes(filled)


def _fill_header(data: memoryview, filled: bytearray, box: Box, seconds: float) -> int:
    """Write the duration `seconds` into `box`, an mvhd or mdhd box, if the box states no duration. Both kinds of box
    begin with the same fields (§8.2.2, §8.4.2). Returns the time scale in `box`."""
    at, width = (20, 8) if _version(data, box) else (12, 4)
    (scale,) = fields("I", data, box, at)
    if scale == 0:
        raise damaged("a track or the movie has a time scale of 0")
    _fill(data, filled, box, at + 4, width, round(seconds * scale))
    return scale


def _version(data: memoryview, box: Box) -> int:
    (version,) = fields("B", data, box)
    if version > 1:
        raise damaged(f"the {box.name} box has an unknown version")
    return version


def _fill(data: memoryview, filled: bytearray, box: Box, at: int, width: int, duration: int) -> None:
    """Write `duration` into the field of `width` bytes at offset `at` of the content of `box`, if the field is 0 or all
    ones."""
    unknown = (1 << 8 * width) - 1
    (stated,) = fields(_WIDTHS[width][1:], data, box, at)
    if stated in (0, unknown) and duration < unknown:
        struct.pack_into(_WIDTHS[width], filled, box.body + at, duration)


def _has_samples(data: memoryview, minf: Box) -> bool:
    samples = by_kind(data, need(by_kind(data, minf), b"stbl"))
    return any(fields("I", data, samples[kind], 4)[0] for kind in _OFFSETS if kind in samples)


def _insert(filled: bytearray, box: bytes, *parents: Box) -> None:
    """Insert `box` as the first child of `parents[0]`, and increase the sizes of all `parents`. Each of the parents is
    a child of the next."""
    for parent in parents:
        at, layout = (parent.start, ">I") if parent.body - parent.start == 8 else (parent.start + 8, ">Q")
        (size,) = struct.unpack_from(layout, filled, at)
        struct.pack_into(layout, filled, at, size + len(box))
    filled[parents[0].body : parents[0].body] = box
