"""Boxes of the ISO base media file format (ISO/IEC 14496-12 §4.2): functions that find them in a buffer, one level at a
time, and functions that write them.

The buffers are untrusted. No function here recurses, allocates more than the buffer holds, or reads beyond the given
box. The functions raise `NotMedia` if a box does not fit.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from serverpy.errors import NotMedia

MAX_CHILDREN = 4096
"""Maximum number of boxes side by side inside one box; a moov usually has a handful."""
HEADER_BYTES = 16
"""Maximum size of a box's header: size, type and a 64-bit size."""


@dataclass(frozen=True, slots=True)
class Box:
    """The position of a box in its buffer: its header from `start`, its content from `body` to before `end`."""

    kind: bytes
    start: int
    body: int
    end: int

    @property
    def name(self) -> str:
        return self.kind.decode("latin-1")


def damaged(what: str) -> NotMedia:
    return NotMedia(f"The MP4 is damaged: {what}.")


def box_at(data: memoryview, at: int, limit: int, *, may_be_open: bool = False) -> Box | None:
    """Return the box that begins at `at` and must end by `limit` (which may lie beyond `data`). Returns None if `data`
    ends within its header. A size of 0, "up to the end of the file", is valid only for a top-level box
    (`may_be_open`)."""
    if at + 8 > len(data):
        return None
    size, kind = struct.unpack_from(">I4s", data, at)
    header = 8
    if size == 1:
        if at + HEADER_BYTES > len(data):
            return None
        (size,) = struct.unpack_from(">Q", data, at + 8)
        header = HEADER_BYTES
    elif size == 0 and may_be_open:
        size = limit - at
    if size < header:
        raise damaged("a box is smaller than its own header")
    if size > limit - at:
        raise damaged("a box is larger than its parent")
    return Box(kind, at, at + header, at + size)


def boxes(data: memoryview, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes from `start` to `end`. Ignores fewer than 8 bytes after the last box, because QuickTime writes
    them."""
    for _ in range(MAX_CHILDREN):
        if end - start < 8:
            return
        box = box_at(data[:end], start, end)
        if box is None:
            raise damaged("a box ends within its header")
        yield box
        start = box.end
    raise damaged("a box has too many children")


def children(data: memoryview, box: Box, skip: int = 0) -> Iterator[Box]:
    """Yield the boxes inside `box`, after `skip` bytes of fields."""
    return boxes(data, box.body + skip, box.end)


def by_kind(data: memoryview, box: Box, skip: int = 0) -> dict[bytes, Box]:
    """Return the children by kind. If several children have the same kind, the first one counts."""
    found: dict[bytes, Box] = {}
    for child in children(data, box, skip):
        found.setdefault(child.kind, child)
    return found


def need(found: dict[bytes, Box], kind: bytes) -> Box:
    try:
        return found[kind]
    except KeyError:
        raise damaged(f"a required {kind.decode()} box is missing") from None


def fields(layout: str, data: memoryview, box: Box, at: int = 0) -> tuple[int, ...]:
    """Read big-endian numbers, in `struct`'s format `layout`, at offset `at` of the box's content. Raises `NotMedia` if
    the box is too short."""
    if box.body + at + struct.calcsize(f">{layout}") > box.end:
        raise damaged(f"its {box.name} box is too short")
    return struct.unpack_from(f">{layout}", data, box.body + at)


def table(code: str, data: memoryview, box: Box, at: int, count: int) -> array[int]:
    """Read `count` big-endian numbers of `array`'s type `code` at offset `at` of the box's content. Raises `NotMedia`,
    before it allocates memory, if the box is too short for `count`."""
    values = array(code)
    start = box.body + at
    if count * values.itemsize > box.end - start:
        raise damaged(f"its {box.name} box is shorter than the table in it")
    values.frombytes(data[start : start + count * values.itemsize])
    return swapped(values)


def swapped(values: array[int]) -> array[int]:
    """Convert the numbers from or to big-endian, in place."""
    if sys.byteorder == "little":
        values.byteswap()
    return values


def write(kind: bytes, *content: bytes | memoryview) -> bytes:
    """Return a box with a 32-bit size."""
    size = 8 + sum(map(len, content))
    return b"".join((struct.pack(">I4s", size, kind), *content))


def write_full(kind: bytes, version: int, flags: int, *content: bytes | memoryview) -> bytes:
    """Return a box with version and flags (§4.2, FullBox)."""
    return write(kind, struct.pack(">I", version << 24 | flags), *content)
