"""The defaults for the samples of a track in fragments (trex, ISO/IEC 14496-12 §8.8.3)."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.media.mp4.boxes import box_at, by_kind, children, fields


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values of samples for which a fragment states none: the number of the sample description, the duration in
    units of the track's time scale, the size in bytes, and the sample flags."""

    description: int = 1
    duration: int = 0
    size: int = 0
    flags: int = 0


def defaults_of(moov: bytes) -> dict[int, Defaults]:
    """Return the defaults of each track of `moov`, by the number of the track."""
    data = memoryview(moov)
    movie = box_at(data, 0, len(data))
    extends = None if movie is None else by_kind(data, movie).get(b"mvex")
    if extends is None:
        return {}
    rows = (fields("IIIII", data, box, 4) for box in children(data, extends) if box.kind == b"trex")
    return {number: Defaults(*values) for number, *values in rows}
