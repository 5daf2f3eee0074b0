"""The parser of the track fragments (traf) of a moof: where the data of each run of samples begins, and the fields of
the samples (ISO/IEC 14496-12 §8.8.6 to §8.8.8)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serverpy.media.mp4.boxes import Box, children, damaged, fields, table
from serverpy.media.mp4.trex import Defaults

_BASE_DATA_OFFSET, BASE_IS_MOOF = 0x000001, 0x020000
"""Flags of a tfhd box (§8.8.7) that state from which position the data offsets count."""
_DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x000002, 0x000008, 0x000010, 0x000020
"""Flags of a tfhd box for the fields that replace the defaults in the trex box."""
DATA_OFFSET, _FIRST_FLAGS = 0x000001, 0x000004
"""Flags of a trun box (§8.8.8) for the fields before its entries."""
_DURATIONS, _SIZES, _SAMPLE_FLAGS, _SHIFTS = 0x000100, 0x000200, 0x000400, 0x000800
"""Flags of a trun box for the fields of its entries, in the order of the fields."""


def track_number(data: memoryview, inside: list[Box]) -> int:
    """Return the number of the track in the tfhd box among `inside`, the children of a traf box. Raises `NotMedia` if
    there is no tfhd box."""
    header = next((box for box in inside if box.kind == b"tfhd"), None)
    if header is None:
        raise damaged("a fragment has no tfhd box")
    return fields("I", data, header, 4)[0]


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a tfhd box, with the defaults of the track for those that the box does not have."""

    base: int | None
    counts_from_moof: bool
    defaults: Defaults

    @property
    def is_implicit(self) -> bool:
        """Whether the position of the data depends on the traf before this one, if there is one."""
        return self.base is None and not self.counts_from_moof

    def base_in(self, moof: int, implicit: int) -> int:
        """Return the offset in the file from which the data offsets of the runs count. `moof` is the offset of the
        moof, and `implicit` that of the end of the data of the traf before this one, or of the moof (§8.8.7)."""
        if self.base is not None:
            return self.base
        return moof if self.counts_from_moof else implicit


def read_tfhd(data: memoryview, inside: list[Box], defaults: Defaults) -> Header:
    """Parse the tfhd box among `inside`, the children of a traf box that has one. `defaults` are those of the track.
    Raises `NotMedia` if the box is damaged."""
    box = next(box for box in inside if box.kind == b"tfhd")
    (flags,) = fields("I", data, box)
    at, base = 8, None
    if flags & _BASE_DATA_OFFSET:
        (base,), at = fields("Q", data, box, at), at + 8
    values = [defaults.description, defaults.duration, defaults.size, defaults.flags]
    for n, flag in enumerate((_DESCRIPTION, _DURATION, _SIZE, _FLAGS)):
        if flags & flag:
            (values[n],), at = fields("I", data, box, at), at + 4
    return Header(base, bool(flags & BASE_IS_MOOF), Defaults(*values))


@dataclass(frozen=True, slots=True)
class Run:
    """The fields of a trun box. A column is None if the entries do not have that field."""

    count: int
    data_offset: int | None
    first_flags: int | None
    durations: array[int] | None
    sizes: array[int] | None
    flags: array[int] | None
    shifts: array[int] | None
    nbytes: int
    """The sum of the sizes of the samples."""


def read_trun(data: memoryview, box: Box, header: Header) -> Run:
    """Parse a trun box. `header` is that of its traf box. Raises `NotMedia` if the box is damaged."""
    flags, count = fields("II", data, box)
    at, offset, first = 8, None, None
    if flags & DATA_OFFSET:
        (offset,), at = fields("i", data, box, at), at + 4
    if flags & _FIRST_FLAGS:
        (first,), at = fields("I", data, box, at), at + 4
    present = [flag for flag in (_DURATIONS, _SIZES, _SAMPLE_FLAGS, _SHIFTS) if flags & flag]
    entries = table("I", data, box, at, count * len(present))
    columns = {flag: entries[n :: len(present)] for n, flag in enumerate(present)}
    shifts = columns.get(_SHIFTS)
    if shifts is not None:  # old packagers write negative numbers in boxes of version 0, too
        shifts = array("i", shifts.tobytes())
    sizes = columns.get(_SIZES)
    nbytes = sum(sizes) if sizes is not None else count * header.defaults.size
    return Run(count, offset, first, columns.get(_DURATIONS), sizes, columns.get(_SAMPLE_FLAGS), shifts, nbytes)


@dataclass(frozen=True, slots=True)
class Traf:
    """A traf box, its children `inside`, and the number and the header of its track. The data offsets of its runs count
    from the offset `base` of the file. `runs` are its trun boxes, each with its fields and the offset in the file of
    its data."""

    box: Box
    inside: list[Box]
    number: int
    header: Header
    base: int
    runs: list[tuple[Box, Run, int]]


def read_trafs(data: memoryview, moof: Box, start: int, defaults: Mapping[int, Defaults]) -> Iterator[Traf]:
    """Yield the traf boxes of `moof`, which begins at the offset `start` of the file. `defaults` are those of all
    tracks. Without a base data offset and without default-base-is-moof, the data of a traf begins where that of the
    traf before it ends, and the data of the first traf at the moof (§8.8.7). A run without a data offset begins where
    the run before it ends (§8.8.8). Raises `NotMedia` if a box is damaged."""
    implicit = start
    for box in children(data, moof):
        if box.kind != b"traf":
            continue
        inside = list(children(data, box))
        number = track_number(data, inside)
        header = read_tfhd(data, inside, defaults.get(number, Defaults()))
        base = implicit = header.base_in(start, implicit)
        runs = list[tuple[Box, Run, int]]()
        for child in inside:
            if child.kind == b"trun":
                run = read_trun(data, child, header)
                at = implicit if run.data_offset is None else base + run.data_offset
                runs.append((child, run, at))
                implicit = at + run.nbytes
        yield Traf(box, inside, number, header, base, runs)
