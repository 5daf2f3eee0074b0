"""Boxes of the ISO base media file format (ISO/IEC 14496-12 §4.2): functions that find boxes in a buffer, one level at
a time, and functions that write boxes.

The buffers are untrusted. No function of this module recurses, allocates more than the buffer holds, or reads beyond
the given box. The functions raise `NotMedia` if a box does not fit into its parent.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from serverpy.errors import NotMedia

MAX_CHILDREN = 4096
"""Maximum number of child boxes of one box. A moov usually has fewer than ten."""
HEADER_BYTES = 16
"""Maximum size of a box's header, in bytes: a 32-bit size, the type and a 64-bit size."""


@dataclass(frozen=True, slots=True)
class Box:
    """The position of a box in its buffer: its header begins at `start`, its content at `body`, and the box ends before
    `end`."""

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
    """Return the box that begins at offset `at` of `data`. Returns None if `data` ends within the header of the
    box. Raises `NotMedia` if the box is shorter than its header, or ends after the offset `limit`, which may be
    larger than the length of `data`. A size field of 0 ("up to the end of the file") is valid only if `may_be_open`
    is true, as for a top-level box."""
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
    """Yield the boxes between the offsets `start` and `end`. Ignores up to 7 bytes after the last box, because
    QuickTime ends a list of boxes with four zero bytes."""
    for _ in range(MAX_CHILDREN):
        if end - start < 8:
            return
        box = box_at(data[:end], start, end)
        if box is None:
            raise damaged("a box ends within its header")
        yield box
        start = box.end
    raise damaged("a box has too many child boxes")


def children(data: memoryview, box: Box, skip: int = 0) -> Iterator[Box]:
    """Yield the child boxes of `box`. Skips the `skip` bytes of fields that precede the first child."""
    return boxes(data, box.body + skip, box.end)


def sample_entries(data: memoryview, stsd: Box) -> list[Box]:
    """Return the sample entries of an stsd box (§8.5.2). Ignores boxes that follow the declared number of entries.
    Raises `NotMedia` if the box has no entry, or fewer than it declares."""
    (count,) = fields("I", data, stsd, 4)
    entries = list(islice(children(data, stsd, skip=8), count))
    if count == 0 or count != len(entries):
        raise damaged("the stsd box does not have as many entries as it declares")
    return entries


def by_kind(data: memoryview, box: Box, skip: int = 0) -> dict[bytes, Box]:
    """Return the child boxes of `box`, by their type. If several children have the same type, the dictionary contains
    the first of them."""
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
    """Read big-endian numbers, in the `struct` format `layout`, at offset `at` of the content of `box`. Raises
    `NotMedia` if the box is too short."""
    if box.body + at + struct.calcsize(f">{layout}") > box.end:
        raise damaged(f"the {box.name} box is too short")
    return struct.unpack_from(f">{layout}", data, box.body + at)


def table(code: str, data: memoryview, box: Box, at: int, count: int) -> array[int]:
    """Read `count` big-endian numbers of the `array` type code `code` at offset `at` of the content of `box`. Raises
    `NotMedia`, before it allocates memory, if the box is too short for `count`."""
    values = array(code)
    start = box.body + at
    if count * values.itemsize > box.end - start:
        raise damaged(f"the {box.name} box is shorter than the table in it")
    values.frombytes(data[start : start + count * values.itemsize])
    return swapped(values)


def swapped(values: array[int]) -> array[int]:
    """Convert `values` between the byte order of this machine and big-endian, in place, and return `values`."""
    if sys.byteorder == "little":
        values.byteswap()
    return values


def write(kind: bytes, *content: bytes | memoryview) -> bytes:
    """Return the bytes of a box of type `kind`, whose header has a 32-bit size."""
    size = 8 + sum(map(len, content))
    return b"".join((struct.pack(">I4s", size, kind), *content))


def write_full(kind: bytes, version: int, flags: int, *content: bytes | memoryview) -> bytes:
    """Return the bytes of a box whose content begins with version and flags (a FullBox, §4.2)."""
    return write(kind, struct.pack(">I", version << 24 | flags), *content)
