"""Makes segments of fragmented MP4 state the duration of the file that they form. A player of the manifest knows the
duration; a player of the file finds 0 in it, or the duration of one segment. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.media.mp4.durations import with_duration, without_index
from serverpy.streaming.segments.kinds import INITIAL_BYTES
from serverpy.streaming.segments.segment import Segment


@dataclass(frozen=True, slots=True)
class Completion:
    """The duration of a stream in seconds. `keeps_places` means that its length is promised, and ranges of it can be
    requested: then only fields of initialization sections change, because the place of any byte must be known without
    the bytes before it."""

    seconds: float
    keeps_places: bool

    def needs_all_of(self, segment: Segment) -> bool:
        """Return whether `segment` must be read from its beginning, whichever bytes of it are asked for: it is an
        initialization section, and not known to be too long to be held."""
        return segment.initial and (segment.length or 0) <= INITIAL_BYTES

    def apply(self, segment: Segment, first: bytes) -> bytes:
        """Return the first bytes of `segment` as they are sent."""
        if self.needs_all_of(segment):
            return with_duration(first, self.seconds, may_grow=not self.keeps_places)
        return first if self.keeps_places or segment.initial else without_index(first)
