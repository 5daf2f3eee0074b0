"""The insertion of the duration into segments of fragmented MP4. A player that reads the manifest knows the duration of
the media. A player that gets the segments as one file would find in that file a duration of 0, or the duration of one
segment. The functions are pure."""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.media.mp4.durations import with_duration, without_index
from serverpy.segment_kinds import INITIAL_BYTES
from serverpy.streaming.segments.segment import Segment


@dataclass(frozen=True, slots=True)
class Completion:
    """The duration of a stream in seconds. If `keeps_places` is true, clients can request ranges of the stream, so the
    offset of each byte must be known without the bytes before it. In this case only the values of fields in
    initialization sections (DASH: initialization segments) change."""

    seconds: float
    keeps_places: bool

    def needs_all_of(self, segment: Segment) -> bool:
        """Return whether `segment` must be read from its beginning, whichever of its bytes the client has requested.
        This is so if it is an initialization section, unless it is known to be longer than INITIAL_BYTES."""
        return segment.initial and (segment.length or 0) <= INITIAL_BYTES

    def apply(self, segment: Segment, first: bytes) -> bytes:
        """Return the bytes to send to the client in place of `first`, the first bytes of `segment`."""
        if self.needs_all_of(segment):
            return with_duration(first, self.seconds, may_grow=not self.keeps_places)
        return first if self.keeps_places or segment.initial else without_index(first)
