"""The sample groups of a track, collected from the moov and the fragments of a file for the sample table of another
file (ISO/IEC 14496-12 §8.9). The functions are pure.

An sgpd box describes groups of one type, and an sbgp box assigns samples to the descriptions by their numbers, which
begin with 1. In a fragment, numbers up to 65536 refer to the sgpd box in the moov, and numbers from 65537 on to the
sgpd box in the same traf (§8.9.4). A sample table has one sgpd box for each type: it contains the descriptions of the
moov with their numbers, followed by those of the fragments, each once.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from serverpy.media.mp4.boxes import Box, damaged, fields, table, write, write_full
from serverpy.media.mp4.run_lengths import Runs
from serverpy.media.mp4.tracks import Track

_LAST_OF_MOOV = 0x10000
"""Largest number that refers to a description in the moov."""
_MOST_GROUPS = 64
"""Maximum number of kinds of sample groups of a track."""
_MOST_BYTES, _DESCRIPTION_BYTES = 128 * 1024, 96
"""Maximum memory, in bytes, of the descriptions from a moov and its fragments in the new sgpd boxes, and the memory
that each description takes in addition to its own bytes."""
_REMEMBERED_NUMBERS = 1024
"""Maximum number of numbers of a sbgp box that are looked up only once. A look-up copies and hashes a description."""


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The descriptions in an sgpd box (§8.9.3). `default` is the number of the description that applies to the samples
    that no sbgp box assigns to a group, or 0. The descriptions have `length` bytes each, from the offset `first` of
    `data` on, unless `starts` lists their offsets, each of which follows a length of 32 bits."""

    default: int
    count: int
    data: memoryview
    first: int
    length: int
    starts: array[int] | None

    def __getitem__(self, number: int) -> bytes:
        """Return the description `number`, which must be between 1 and `count`."""
        if self.starts is None:
            start, length = self.first + (number - 1) * self.length, self.length
        else:
            start = self.starts[number - 1]
            length = int.from_bytes(self.data[start - 4 : start], "big")
        return bytes(self.data[start : start + length])


def read_descriptions(data: memoryview, box: Box) -> Descriptions | None:
    """Parse an sgpd box. A box of version 0 does not state the lengths of the descriptions, so all of them must have
    the same length. The same applies to a box of version 2 according to the edition of 2012 of the standard; the length
    of the box shows which edition applies. Returns None if the lengths cannot be determined. Raises `NotMedia` if the
    box is empty."""
    (version,) = fields("B", data, box)
    found = _read_descriptions(data, box, states_length=version > 0, states_default=version > 1)
    if found is None and version > 1:
        found = _read_descriptions(data, box, states_length=False, states_default=True)
    return found


def _read_descriptions(data: memoryview, box: Box, *, states_length: bool, states_default: bool) -> Descriptions | None:
    """Parse an sgpd box. `states_length` and `states_default` state which of the two optional fields it has. Returns
    None if the descriptions do not fill the box exactly."""
    layout = "I" * (1 + states_length + states_default)
    first = box.body + 8 + 4 * len(layout)
    if first > box.end:
        return None
    *options, count = fields(layout, data, box, 8)
    size, default = box.end - first, options[-1] if states_default else 0
    starts = None
    if not states_length:
        length = size // count if count else 0
    elif not (length := options[0]):
        starts = _starts(data, first, box.end, count)
        if starts is None:
            return None
    if starts is None and length * count != size:
        return None
    return Descriptions(default, count, data, first, length, starts)


def _starts(data: memoryview, at: int, end: int, count: int) -> array[int] | None:
    """Return the offsets of `count` descriptions, each of which follows its length. Returns None if they do not end at
    the offset `end`."""
    starts = array("I")  # the offsets lie in a moov or in moof boxes, which have at most MAX_INDEX_BYTES
    while at + 4 <= end and len(starts) < count:
        starts.append(at + 4)
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return starts if at == end and len(starts) == count else None


@dataclass(slots=True)
class _Kind:
    """The descriptions of one type: those that the moov lists, and those of fragments that were `added`. `is_open`
    states whether descriptions can be added. `numbers` maps all descriptions to their numbers; it is empty until a
    description of a fragment is looked up."""

    listed: Descriptions | None = None
    is_open: bool = True
    added: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)

    @property
    def default(self) -> int:
        return 0 if self.listed is None else self.listed.default

    @property
    def count(self) -> int:
        """Number of the descriptions in the moov."""
        return 0 if self.listed is None else self.listed.count

    def all(self) -> Iterator[bytes]:
        if self.listed is not None:
            yield from (self.listed[number] for number in range(1, self.count + 1))
        yield from self.added


@dataclass(slots=True)
class _Groups:
    """The numbers of the groups of the first `count` samples; 0 stands for a sample in no group."""

    runs: Runs = field(default_factory=Runs)
    count: int = 0

    def add(self, count: int, number: int) -> None:
        self.runs.add(count, number)
        self.count += count

    def go_to(self, count: int, number: int) -> None:
        """Extend the groups to the first `count` samples. The added samples are in the group `number`."""
        self.add(max(0, count - self.count), number)


@dataclass(frozen=True, slots=True)
class Assigned:
    """The groups of all samples, as runs of samples in the same group. `values` has the number of the group of each
    run, and `ends` the number of the first sample after each run; the first sample of the track has the number 0.
    `head` are the fields of the sbgp box that precede its table. `default` is the number of the description in the moov
    that applies to samples without an sbgp box."""

    head: bytes
    default: int
    ends: array[int]
    values: array[int]

    def box(self, begin: int, end: int) -> bytes:
        """Return the sbgp box of the samples `begin` to `end - 1`, or b"" if they need none."""
        runs, at = Runs(), bisect_right(self.ends, begin)
        while begin < end:
            stop = min(end, self.ends[at])
            runs.add(stop - begin, self.values[at])
            begin, at = stop, at + 1
        return write(b"sbgp", self.head, runs.packed()) if set(runs.values) - {self.default} else b""


class SampleGroups:
    """The sample groups of a track, with the descriptions in its moov."""

    def __init__(self, track: Track) -> None:
        self._track = track
        described = [box for box in track.repeated if box.kind == b"sgpd"]
        self._described = [(box, _kind_of(track.data, box)) for box in described]
        self._kinds = dict[bytes, _Kind]()
        self._left_bytes = _MOST_BYTES
        self._groups = dict[bytes, _Groups]()
        """The groups, by the fields of their sbgp boxes that precede the table."""
        for box, kind in self._described:
            if kind not in self._kinds:
                listed = read_descriptions(track.data, box)
                self._kinds[kind] = _Kind(listed, is_open=listed is not None)

    def add_listed(self, count: int) -> None:
        """Add the groups of the `count` samples that the moov lists. Raises the errors of `add`."""
        for box in self._track.repeated:
            if box.kind == b"sbgp":
                self._add_rows(self._track.data, box, {}, 0, count)

    def add(self, data: memoryview, inside: Iterable[Box], first: int, end: int) -> None:
        """Add the groups of the samples `first` to `end - 1`, to which the boxes `inside`, the children of a traf box,
        assign groups. The number of a sample counts from the first sample of the track, which has 0. Raises `NotMedia`
        if a box is damaged, or if there are too many groups or descriptions."""
        boxes = [box for box in inside if box.kind in (b"sgpd", b"sbgp")]
        local = dict[bytes, Descriptions]()
        for box in boxes:
            if box.kind == b"sgpd" and (found := read_descriptions(data, box)) is not None:
                local.setdefault(_kind_of(data, box), found)
        assigned = {self._add_rows(data, box, local, first, end) for box in boxes if box.kind == b"sbgp"}
        for kind, descriptions in local.items():
            if descriptions.default and kind not in assigned:
                self._extend(bytes(4) + kind, first, end, self._default(kind, local))

    def _add_rows(self, data: memoryview, box: Box, local: Mapping[bytes, Descriptions], first: int, end: int) -> bytes:
        """Add the groups of an sbgp box (§8.9.2) for the samples `first` to `end - 1`. Returns the type of the groups.
        If the box assigns groups to more samples, ignores the rest."""
        at = 12 if fields("B", data, box)[0] else 8
        (rows,) = fields("I", data, box, at)
        assigned = table("I", data, box, at + 4, 2 * rows)
        head = bytes(data[box.body : box.body + at])
        kind = head[4:8]
        groups, found = self._extend(head, first, first, 0), dict[int, int]()
        for count, number in zip(assigned[0::2], assigned[1::2], strict=True):
            if count := min(count, max(0, end - groups.count)):
                if (new := found.get(number)) is None:
                    new = self._number(kind, local.get(kind), number)
                    if len(found) < _REMEMBERED_NUMBERS:
                        found[number] = new
                groups.add(count, new)
        groups.go_to(end, self._default(kind, local))
        return kind

    def _extend(self, head: bytes, first: int, end: int, number: int) -> _Groups:
        """Return the groups with the fields `head`, extended to the samples before `end`. The samples from `first` on
        are in the group `number`; samples before `first` without a group are in the default group."""
        groups = self._groups.setdefault(head, _Groups())
        if len(self._groups) > _MOST_GROUPS:
            raise damaged("a track has too many kinds of sample groups")
        groups.go_to(first, self._default(head[4:8], {}))
        groups.go_to(end, number)
        return groups

    def _default(self, kind: bytes, local: Mapping[bytes, Descriptions]) -> int:
        """Return the number of the description for the samples that no sbgp box assigns to a group of the type
        `kind`."""
        own = local.get(kind)
        if own is not None and own.default:
            return self._number_of(kind, own, own.default - (_LAST_OF_MOOV if own.default > _LAST_OF_MOOV else 0))
        known = self._kinds.get(kind)
        return 0 if known is None else known.default

    def _number(self, kind: bytes, local: Descriptions | None, number: int) -> int:
        """Return the number that a description has in the new sample table. `number` is its number in the moov or traf,
        and `local` are the descriptions in the traf. Returns 0 if there is no such description."""
        if number > _LAST_OF_MOOV:
            return 0 if local is None else self._number_of(kind, local, number - _LAST_OF_MOOV)
        known = self._kinds.get(kind)
        is_known = known is not None and (number <= known.count or (known.listed is None and not known.is_open))
        return number if is_known else 0

    def _number_of(self, kind: bytes, local: Descriptions, number: int) -> int:
        """Return the number that the description `number` of `local` has in the new sample table. Adds the description
        if the table has no equal description. Returns 0 if `local` has no such description, or if it cannot be
        added."""
        known = self._kinds.setdefault(kind, _Kind())
        if not 0 < number <= local.count or not known.is_open:
            return 0
        if not known.numbers:
            for other, listed in enumerate(known.all(), 1):
                self._take(listed)
                known.numbers.setdefault(listed, other)
        description = local[number]
        if description not in known.numbers:
            self._take(description)
            known.added.append(description)
            known.numbers[description] = known.count + len(known.added)
        return known.numbers[description]

    def _take(self, description: bytes) -> None:
        self._left_bytes -= _DESCRIPTION_BYTES + len(description)
        if self._left_bytes < 0:
            raise damaged("the fragments have too many descriptions of sample groups")

    def written_descriptions(self) -> Iterator[bytes | memoryview]:
        """Yield the sgpd boxes of the new sample table. A box of the moov stays the same if nothing is added to it."""
        for box, kind in self._described:
            if not self._kinds[kind].added:
                yield self._track.bytes_of(box)
        for kind, known in self._kinds.items():
            if known.added:
                yield _write_descriptions(kind, known.default, list(known.all()))

    def assigned(self, count: int) -> list[Assigned]:
        """Return the groups of the `count` samples of the track."""
        found = list[Assigned]()
        for head, groups in self._groups.items():
            default = self._default(head[4:8], {})
            groups.go_to(count, default)
            found.append(Assigned(head, default, array("I", accumulate(groups.runs.counts)), groups.runs.values))
        return found


def _kind_of(data: memoryview, box: Box) -> bytes:
    """Return the type of the groups that an sgpd box describes."""
    return fields("I", data, box, 4)[0].to_bytes(4, "big")


def _write_descriptions(kind: bytes, default: int, descriptions: list[bytes]) -> bytes:
    """Return an sgpd box, which has version 2 if there is a default."""
    lengths = {len(each) for each in descriptions}
    length = lengths.pop() if len(lengths) == 1 else 0
    parts = descriptions if length else [struct.pack(">I", len(each)) + each for each in descriptions]
    options = (length, default) if default else (length,)
    head = struct.pack(f">{len(options) + 1}I", *options, len(descriptions))
    return write_full(b"sgpd", len(options), 0, kind, head, *parts)
