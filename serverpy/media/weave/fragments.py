"""The reader of a block of fragments from a source file. The reader reads each moof as a whole, patches it for the
merged file, and returns all other bytes unchanged."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import HEADER_BYTES, Box, box_at, damaged
from serverpy.media.mp4.fragments import patch_moof
from serverpy.media.mp4.layout import Layout, Piece
from serverpy.media.mp4.locate import MAX_LARGE_MOOF_BYTES, MAX_MOOF_BYTES
from serverpy.media.mp4.own_trafs import with_own_trafs
from serverpy.media.weave.source import Forward
from serverpy.memory.room import Room

_COPIES = 4
"""Number of copies of a moof that are in memory while it is patched and sent."""


async def read_block(layout: Layout, piece: Piece, reader: Forward, room: Room) -> AsyncGenerator[bytes]:
    """Yield the bytes of `piece`, which is part of a block of fragments. Also reads the headers of the boxes before
    `piece` in the block, because only these headers show where a moof begins. Borrows the memory for moofs of more than
    MAX_MOOF_BYTES from `room`."""
    start = layout.offsets[piece.run]
    size = layout.starts[piece.run + 1] - layout.starts[piece.run]
    first, end = piece.skip, piece.skip + piece.length
    at = moofs = 0
    while at < end:
        head = await reader.exactly(start + at, min(HEADER_BYTES, size - at))
        box = box_at(memoryview(head), 0, size - at)
        if box is None:
            raise damaged("a box of a fragment ends within its header")
        head = head[: box.end]
        borrowed = 0
        if box.kind == b"moof":
            if at + box.end > first:
                if box.end > MAX_MOOF_BYTES:
                    borrowed = _COPIES * box.end
                    await room.grow(borrowed)
                head = await _read_moof(layout, piece, reader, start + at, box, head, moofs)
            moofs += 1
        elif box.kind == b"sidx":  # make it a `free` box, because the offsets in this sidx are wrong in the merged file
            head = head[:4] + b"free" + head[8:]
        taken = len(head)
        part, head = head[max(0, first - at) : max(0, end - at)], b""
        for each in range(0, len(part), MAX_MOOF_BYTES):
            yield part[each : each + MAX_MOOF_BYTES]
        part = b""
        room.shrink(borrowed)
        here, stop = max(first, at + taken), min(end, at + box.end)
        while here < stop:
            chunk = await reader.some(start + here, stop - here)
            here += len(chunk)
            yield chunk
        at += box.end


async def _read_moof(
    layout: Layout, piece: Piece, reader: Forward, offset: int, box: Box, head: bytes, moofs: int
) -> bytes:
    """Read the whole moof at `offset`, whose first bytes are `head`, and return the moof as patched for the merged
    file."""
    if box.end > MAX_LARGE_MOOF_BYTES:
        raise UnsupportedConversion("The fragments of one of the two formats are larger than this server allows.")
    number = layout.numbers[piece.source]
    assert number is not None
    moof = head + await reader.exactly(offset + len(head), box.end - len(head))
    others = layout.others[piece.source]
    if others is not None:
        moof = with_own_trafs(moof, offset, number, others)
    shift = layout.starts[piece.run] - layout.offsets[piece.run]
    sequence = piece.run * layout.most_moofs + min(moofs + 1, layout.most_moofs)
    return patch_moof(moof, number, piece.source + 1, sequence, shift)
