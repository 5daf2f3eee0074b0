"""Pure functions for the layout of an MP4 that is merged from two segmented tracks with known segment lengths: one
moov, followed by the segments of both tracks in the order of the segments' times.

The merged file has no index (sidx), because playlists round the times of segments, and libav would take the times in an
index for the times of the samples."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from serverpy.media.mp4.layout import Layout

MOST_MOOFS = 4096
"""Maximum number of fragments in a segment. It suffices for a long segment in which each sample is a fragment of its
own."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The media segments of one track: their times in seconds, their sizes in bytes, and their offsets in the
    concatenation of all segments of the track. That concatenation includes the initialization section, and has `total`
    bytes."""

    total: int
    times: array[float] = field(default_factory=lambda: array("d"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, time: float, offset: int, size: int) -> None:
        self.times.append(time)
        self.offsets.append(offset)
        self.sizes.append(size)


def lay_out_blocks(
    head: bytes, tracks: tuple[Blocks, Blocks], numbers: tuple[int, int], seconds: float | None
) -> Layout:
    """Return the layout of the file that consists of `head` and the segments of `tracks`. `numbers` are the track
    numbers in the sources. If a segment of each track has the same time, the segment of the first track comes first."""
    order = sorted(
        (time, source, index) for source, blocks in enumerate(tracks) for index, time in enumerate(blocks.times)
    )
    starts, offsets, at = array("Q"), array("Q"), len(head)
    for _, source, index in order:
        starts.append(at)
        offsets.append(tracks[source].offsets[index])
        at += tracks[source].sizes[index]
    starts.append(at)
    sources = bytes(source for _, source, _ in order)
    sizes = tracks[0].total, tracks[1].total
    return Layout(head, starts, offsets, sources, sizes, numbers, seconds, MOST_MOOFS)
