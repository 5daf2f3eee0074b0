"""The merge of two segmented tracks whose playlists state the length of every segment. The length of the merged file is
then known before it is read, and clients can request ranges of it (`media/weave/`). ServerPY must be able to produce
the bytes of a range without the bytes before that range, so no segment may depend on an earlier segment."""

from __future__ import annotations

import hashlib
from functools import partial

from serverpy.extraction.choice import believed_duration
from serverpy.media.mp4.blocks import Blocks, lay_out_blocks
from serverpy.media.mp4.locate import MAX_INDEX_BYTES
from serverpy.media.mp4.sections import write_head
from serverpy.media.weave.cache import SourceVersion, Woven
from serverpy.memory.room import Room
from serverpy.streaming.segments.side import Side
from serverpy.tasks import in_thread

_SEGMENT_BYTES = 256
"""Bytes of memory per segment that the computation of a layout takes."""
_TURN = 500
"""Number of segments for which the room borrows memory at a time."""


async def blocks_of(side: Side, room: Room) -> Blocks | None:
    """Return the blocks of all media segments of `side`. The caller must have read up to the first fragment of `side`,
    and no further. Returns None if the position or the bytes of a segment in the merged file depend on earlier
    segments. This is so if the length of a segment or the duration of the track is unknown, if the segments contain a
    discontinuity, a second initialization section or another track, or if the first moof has a base data offset. Also
    returns None if the segments are too many for a layout."""
    total, moof = side.total, side.moof
    if total is None or side.duration is None or side.has_foreign or moof is None or moof.bases or side.shift:
        return None
    blocks, at, time = Blocks(total), 0, side.begin_time
    first = None
    async for segment in side.listed():
        first = first or segment
        if segment.gap:
            time += segment.duration or 0.0
            continue
        if segment.length is None or segment.discontinuity != first.discontinuity or segment.initial != (at == 0):
            return None
        if not segment.initial:
            blocks.add(time, at, min(segment.length, total - at))
            time += segment.duration or 0.0
        at += segment.length
        if len(blocks.times) % _TURN == 1:
            await room.grow(_TURN * _SEGMENT_BYTES)
    is_within = len(blocks.times) * _SEGMENT_BYTES <= MAX_INDEX_BYTES
    return blocks if is_within and blocks.times else None


def head_of(sides: list[Side]) -> tuple[bytes, float | None]:
    """Return two values: the head of the file that is merged from `sides`, and the duration of that file in seconds, or
    None if it is unknown or invalid. No fragment of `sides` may have been sent yet."""
    ends = [side.stated_end for side in sides]
    # a decode time may have any value, so the end may be too large for its fields
    end = None if None in ends else believed_duration(max(each for each in ends if each is not None))
    return write_head([side.section for side in sides], [side.duration for side in sides], end), end


async def woven(sides: list[Side], blocks: tuple[Blocks, Blocks], _room: Room) -> Woven:
    """Return the layout of the file that is merged from `blocks`, the segments of `sides`."""
    numbers = sides[0].section.number, sides[1].section.number
    head, seconds = head_of(sides)
    layout = await in_thread(partial(lay_out_blocks, head, blocks, numbers, seconds), name="lay out")
    versions = SourceVersion(blocks[0].total, None, None), SourceVersion(blocks[1].total, None, None)
    digest = hashlib.sha256(head)
    for part in (layout.starts, layout.offsets, layout.sources):
        digest.update(part)
    return Woven(layout, versions, f'"{digest.hexdigest()[:32]}"')
