"""Pure functions that adapt the moof of a track's fragment to another file (ISO/IEC 14496-12 §8.8). Before ServerPY
sends a moof, these functions read its times and offsets, and change the numbers that depend on the file that contains
the moof. The length of a moof never changes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from serverpy.errors import DrmProtected, UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, children, damaged, fields, table

_BASE_DATA_OFFSET, _DESCRIPTION, _DURATION, _BASE_IS_MOOF = 0x000001, 0x000002, 0x000008, 0x020000
"""Flags of a tfhd box (§8.8.7)."""
_RUN_DATA_OFFSET, _RUN_FIRST_FLAGS, _RUN_DURATIONS, _RUN_ENTRY = 0x000001, 0x000004, 0x000100, 0x000F00
"""Flags of a trun box (§8.8.8). Each bit of `_RUN_ENTRY` stands for a field of 4 bytes in each entry of the box."""
_ENCRYPTED = frozenset({b"senc", b"saio", b"saiz"})
_PIFF_ENCRYPTED = bytes.fromhex("a2394f525a9b4f14a2446c427c648df4")
"""The type of the `uuid` box that older packagers write instead of senc."""
_MAX_TIME = {0: (1 << 32) - 1, 1: (1 << 63) - 1}
_MDAT_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Base:
    """A base data offset (§8.8.7). `at` is the offset of the field in the moof; `value` is the content of the field, an
    offset in a file."""

    at: int
    value: int


@dataclass(frozen=True, slots=True)
class Time:
    """A decode time (tfdt, §8.8.12): the offset `at` of the field in the moof, the version of the tfdt box, and the
    value of the field."""

    at: int
    version: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moof:
    """The moof `data` of one fragment, and the offsets in the moof of the fields that depend on the file. `time` is the
    decode time of the track's first sample, or None if the moof does not state it; `duration` is the sum of the
    durations of the track's samples. Both are in units of the track's time scale. `sequence_at` is the offset of the
    sequence number, `numbers` are the offsets of the track numbers, and `foreign` are the offsets of the traf boxes of
    other tracks."""

    data: bytes
    time: int | None
    duration: int
    sequence_at: int | None
    numbers: tuple[int, ...]
    bases: tuple[Base, ...]
    times: tuple[Time, ...]
    foreign: tuple[int, ...]

    @property
    def has_track(self) -> bool:
        return bool(self.numbers)

    def patched(self, *, number: int, sequence: int, ticks: int, old_places: Iterable[int], place: int) -> bytes:
        """Return a copy of the moof for another file, in which the moof is at the offset `place`. The copy has the
        track number `number` and the sequence number `sequence`, its decode times are `ticks` later, and the traf boxes
        of other tracks become `free` boxes. `old_places` are the offsets that the moof may have in its source: the base
        data offsets count from one of these. Raises `NotMedia` if a base data offset points neither to the moof nor to
        the data behind it, or if a decode time becomes negative or too large for its field."""
        patched, old_places = bytearray(self.data), tuple(old_places)
        if self.sequence_at is not None:
            struct.pack_into(">I", patched, self.sequence_at, sequence & 0xFFFFFFFF)
        for at in self.numbers:
            struct.pack_into(">I", patched, at, number)
        for base in self.bases:
            struct.pack_into(">Q", patched, base.at, place + self._distance(base.value, old_places))
        for time in self.times:
            _write_time(patched, time, ticks)
        for at in self.foreign:
            patched[at + 4 : at + 8] = b"free"
        return bytes(patched)

    def _distance(self, base: int, places: tuple[int, ...]) -> int:
        """Return the distance in bytes from the beginning of the moof to the position of the base data offset `base`.
        Depending on the packager, `base` counts from the beginning of the segment, of the file that contains the
        segment, or of all segments together. `places` has the offset of the moof for each of these cases. If `base` is
        the beginning of the moof in one of the cases, this method chooses that case. Otherwise it chooses the first
        case in which `base` lies in the moof or in the header of the mdat behind the moof."""
        if base in places:
            return 0
        furthest = len(self.data) + _MDAT_HEAD_BYTES
        for place in places:
            if place <= base <= place + furthest:
                return base - place
        raise damaged("the base data offset of a fragment does not point to the fragment's own moof or mdat box")


def _write_time(patched: bytearray, time: Time, ticks: int) -> None:
    moved = time.value + ticks
    if not 0 <= moved <= _MAX_TIME[time.version]:
        raise damaged("a decode time (tfdt) is out of range")
    struct.pack_into(">Q" if time.version else ">I", patched, time.at, moved)


def read_moof(moof: bytes, number: int, default_duration: int) -> Moof:
    """Read a moof for the track with the number `number` in the source. If neither the tfhd nor the trun box states the
    durations of samples, each sample lasts `default_duration`. Raises `NotMedia` if the moof is damaged, `DrmProtected`
    if the samples are encrypted, and `UnsupportedConversion` if the positions of the samples depend on an earlier traf
    box of another track, which `with_own_trafs` can prevent."""
    data = memoryview(moof)
    box = box_at(data, 0, len(data))
    if box is None or box.kind != b"moof":
        raise damaged("a fragment has an invalid moof box")
    own, foreign, sequence_at = list[_Traf](), list[int](), None
    for child in children(data, box):
        if child.kind == b"mfhd":
            fields("I", data, child, 4)
            sequence_at = child.body + 4
        elif child.kind == b"traf":
            traf = _read_traf(data, child, number, default_duration)
            if traf is None:
                foreign.append(child.start)
            elif traf.base is None and not traf.counts_from_moof and foreign:
                raise UnsupportedConversion(
                    "In one of the two formats, the data offset of a traf box depends on another traf box, so the "
                    "formats cannot be merged."
                )
            else:
                own.append(traf)
    times = tuple(traf.time for traf in own if traf.time is not None)
    return Moof(
        data=moof,
        time=times[0].value if times else None,
        duration=sum(traf.duration for traf in own),
        sequence_at=sequence_at,
        numbers=tuple(traf.number_at for traf in own),
        bases=tuple(traf.base for traf in own if traf.base is not None),
        times=times,
        foreign=tuple(foreign),
    )


@dataclass(frozen=True, slots=True)
class _Traf:
    """The fields of a track fragment (§8.8.6). `number_at` is the offset of the track number in the moof.
    `counts_from_moof` states whether the offsets of the samples count from the beginning of the moof."""

    number_at: int
    base: Base | None
    time: Time | None
    duration: int
    counts_from_moof: bool


def _read_traf(data: memoryview, traf: Box, number: int, default_duration: int) -> _Traf | None:
    """Read a track fragment, a traf box. Returns None if the box belongs to another track than `number`."""
    inside = list(children(data, traf))
    header = next((box for box in inside if box.kind == b"tfhd"), None)
    if header is None:
        raise damaged("a fragment has no tfhd box")
    flags, own_number = fields("II", data, header)
    if own_number != number:
        return None
    if any(is_encrypted(data, box) for box in inside):
        raise DrmProtected("This format is encrypted, so it cannot be merged.")
    at, base = 8, None
    if flags & _BASE_DATA_OFFSET:
        base, at = Base(header.body + at, fields("Q", data, header, at)[0]), at + 8
    at += 4 if flags & _DESCRIPTION else 0
    duration = fields("I", data, header, at)[0] if flags & _DURATION else default_duration
    runs = sum(_run_duration(data, box, duration) for box in inside if box.kind == b"trun")
    tfdt = next((box for box in inside if box.kind == b"tfdt"), None)
    time = None if tfdt is None else _read_time(data, tfdt)
    return _Traf(header.body + 4, base, time, runs, bool(flags & _BASE_IS_MOOF))


def is_encrypted(data: memoryview, box: Box) -> bool:
    """Return whether `box`, a child of a traf box, shows that the samples are encrypted."""
    is_piff = box.kind == b"uuid" and bytes(data[box.body : box.body + 16]) == _PIFF_ENCRYPTED
    return is_piff or box.kind in _ENCRYPTED


def _read_time(data: memoryview, tfdt: Box) -> Time:
    (version,) = fields("B", data, tfdt)
    if version > 1:
        raise damaged("the tfdt box has an unknown version")
    return Time(tfdt.body + 4, version, fields("Q" if version else "I", data, tfdt, 4)[0])


def _run_duration(data: memoryview, trun: Box, default: int) -> int:
    """Return the sum of the durations of the samples of a trun box."""
    flags, count = fields("II", data, trun)
    if not flags & _RUN_DURATIONS:
        return count * default
    at = 8 + (4 if flags & _RUN_DATA_OFFSET else 0) + (4 if flags & _RUN_FIRST_FLAGS else 0)
    width = (flags & _RUN_ENTRY).bit_count()
    return sum(table("I", data, trun, at, count * width)[::width])
