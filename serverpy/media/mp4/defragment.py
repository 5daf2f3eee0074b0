"""The conversion of a fragmented track into a track that is not fragmented: a moov whose sample tables list the samples
of all fragments at their positions in the same file (ISO/IEC 14496-12 §8.6, §8.8). The functions are pure.

The conversion needs every moof of the file. It suits files without an index, files with few long fragments, and files
that have samples both in the moov and in fragments.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby, pairwise, repeat
from operator import add

from serverpy.errors import DrmProtected, UnsupportedConversion
from serverpy.media.mp4.boxes import (
    Box,
    box_at,
    by_kind,
    children,
    damaged,
    fields,
    need,
    swapped,
    table,
    write,
    write_full,
)
from serverpy.media.mp4.fragment_runs import Header, Run, read_trafs, track_number
from serverpy.media.mp4.header import write_moov
from serverpy.media.mp4.moof import is_encrypted
from serverpy.media.mp4.run_lengths import Runs
from serverpy.media.mp4.sample_groups import SampleGroups
from serverpy.media.mp4.samples import check_count, read_samples, rows_of
from serverpy.media.mp4.tracks import AUDIO_HANDLER, Edit, Track, find_track
from serverpy.media.mp4.trex import Defaults, defaults_of

_DEPENDENT = 0x01010000
"""Bits of the sample flags (§8.8.3.1): the sample is not a sync sample, or it depends on others."""
_MAX_32 = 2**32 - 1
_SAMPLE_BYTES, _MOOF_FACTOR, _FIXED_BYTES = 96, 3, 768 * 1024
"""Memory that a conversion takes: bytes for each sample, copies of the moov and moof boxes, and other bytes."""


@dataclass(frozen=True, slots=True)
class Moofs:
    """The moof boxes of a file, one after another in `data`. `starts` are their offsets in the file."""

    data: bytes
    starts: array[int]

    @property
    def nbytes(self) -> int:
        return len(self.data) + 8 * len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, Box]]:
        """Yield the offset of each moof in the file, and the moof as a box in `data`."""
        data, at = memoryview(self.data), 0
        for start in self.starts:
            box = box_at(data, at, len(data))
            if box is None:
                raise damaged("a fragment has an invalid moof box")
            yield start, box
            at = box.end


def defragmented_bytes(moov: bytes, moofs: Moofs, handler: bytes) -> int:
    """Return the maximum number of bytes of memory that `defragmented` takes in addition to its arguments, according to
    measurements and with a margin. Raises the errors of `defragmented`."""
    track = find_track(moov, handler)
    data, count = memoryview(moofs.data), _listed(track)
    for _, moof in moofs:
        for traf in children(data, moof):
            if traf.kind == b"traf":
                inside = list(children(data, traf))
                if track_number(data, inside) == track.number:
                    count += sum(fields("I", data, box, 4)[0] for box in inside if box.kind == b"trun")
        check_count(count)
    return _SAMPLE_BYTES * count + _MOOF_FACTOR * (len(moov) + moofs.nbytes) + _FIXED_BYTES


def defragmented(moov: bytes, moofs: Moofs, handler: bytes, total: int) -> bytes:
    """Return a moov with one track: the first track of `moov` whose type is `handler`, with the samples that `moov` and
    `moofs` list. `total` is the size of the file in bytes. Raises `UnsupportedConversion` if the samples cannot be
    listed in a moov, `DrmProtected` if they are encrypted, and `NotMedia` if a box is damaged."""
    track = find_track(moov, handler)
    defaults, made = defaults_of(moov), _Samples(SampleGroups(track))
    has_samples = _add_listed(made, track, total)
    for start, moof in moofs:
        _add_moof(made, memoryview(moofs.data), moof, start, track.number, defaults)
    if not made.sizes:
        raise damaged("the fragments have no samples of the track")
    scale = math.lcm(track.movie_scale, track.scale)
    scale = scale if scale <= _MAX_32 else track.movie_scale
    end = made.end  # a pass over all samples
    edits = _edits(track, made, scale, end, is_open=has_samples)
    duration = sum(edit.duration for edit in edits) if edits else _rounded_up(end * scale, track.scale)
    moved = replace(track, movie_scale=scale, edits=tuple(edits), duration=duration)
    return _with_media_duration(write_moov([moved], [_write_table(moved, made)]), made.length)


def end_of(moofs: Moofs, number: int, defaults: Mapping[int, Defaults]) -> int | None:
    """Return the presentation time, in units of the track's time scale, at which the track `number` ends. `moofs` are
    the last fragments of the file, and `defaults` those of all tracks. Returns None if these fragments have no samples
    of the track, or state no decode time. Raises `NotMedia` if a box is damaged, and `UnsupportedConversion` if the
    fragments have more than MAX_SAMPLES samples of the track."""
    data, time, end, count = memoryview(moofs.data), None, None, 0
    for start, moof in moofs:
        for traf in read_trafs(data, moof, start, defaults):
            if traf.number != number:
                continue
            stated = decode_time(data, traf.inside)
            time = time if stated is None else stated
            if time is None:
                continue
            for _, run, _ in traf.runs:
                count += run.count
                check_count(count)
                for duration, shift in _times_of(run, traf.header):
                    time += duration
                    end = max(end or 0, time + shift)
    return end


def _times_of(run: Run, header: Header) -> Iterator[tuple[int, int]]:
    """Yield the duration of each sample of `run`, and the difference between its presentation and decode times."""
    durations = repeat(header.defaults.duration, run.count) if run.durations is None else run.durations
    return zip(durations, repeat(0, run.count) if run.shifts is None else run.shifts, strict=True)


@dataclass(slots=True)
class _Samples:
    """The samples of a track, as the tables of a moov list them. `begin` is the decode time of the first sample, and
    `length` the sum of the durations, both in units of the track's time scale. Each run of adjacent samples is a
    chunk."""

    groups: SampleGroups
    sizes: array[int] = field(default_factory=lambda: array("I"))
    durations: Runs = field(default_factory=Runs)
    shifts: Runs = field(default_factory=Runs)
    """Differences between presentation times and decode times."""
    sync: array[int] = field(default_factory=lambda: array("I"))
    """Numbers of the sync samples; the first sample has the number 1."""
    chunks: array[int] = field(default_factory=lambda: array("Q"))
    """The offset of each chunk in the file. `counts` and `descriptions` contain the number of samples of each chunk,
    and the number of its sample description."""
    counts: array[int] = field(default_factory=lambda: array("I"))
    descriptions: array[int] = field(default_factory=lambda: array("I"))
    begin: int | None = None
    length: int = 0

    @property
    def end(self) -> int:
        """The presentation time, in units of the track's time scale, at which the last sample ends, if the decode time
        of the first sample is 0."""
        return max(map(add, accumulate(self.durations), self.shifts), default=0)

    def go_to(self, time: int | None) -> None:
        """Set the decode time of the next sample to `time`, or to the end of the last sample if `time` is None. If
        `time` is not the end of the last sample, changes the duration of that sample. Raises `UnsupportedConversion` if
        `time` lies before the last sample."""
        if self.begin is None:
            self.begin = time or 0
        if time is None or (gap := time - self.begin - self.length) == 0:
            return
        duration = (self.durations.values[-1] + gap) if self.sizes else -1
        if not 0 <= duration <= _MAX_32:
            raise UnsupportedConversion(
                "In one of the two formats, the decode times of the fragments are out of order, so the formats cannot "
                "be merged."
            )
        self.durations.change_last(duration)
        self.length += gap

    def add_chunk(self, offset: int, count: int, description: int) -> None:
        self.chunks.append(offset)
        self.counts.append(count)
        self.descriptions.append(description)


def _add_listed(made: _Samples, track: Track, total: int) -> bool:
    """Add the samples that the moov of the file lists. Returns whether there are any."""
    if not _listed(track):
        return False
    samples = read_samples(track, total)
    made.sizes.extend(after - before for before, after in pairwise(samples.ends))
    made.begin = 0
    for count, duration in rows_of(track, b"stts", samples.count):
        made.durations.add(count, duration & _MAX_32)
        made.length += count * (duration & _MAX_32)
    for count, shift in rows_of(track, b"ctts", samples.count):
        made.shifts.add(count, shift)
    if (sync := track.samples.get(b"stss")) is None:
        made.sync.extend(range(1, samples.count + 1))
    else:
        made.sync = table("I", track.data, sync, 8, fields("I", track.data, sync, 4)[0])
    made.groups.add_listed(samples.count)
    descriptions = dict(samples.described)
    description = samples.described[0][1]
    for chunk, offset in enumerate(samples.chunks):
        begin, end = samples.first[chunk], samples.first[chunk + 1]
        description = descriptions.get(begin, description)
        made.add_chunk(offset, end - begin, description)
    return True


def _listed(track: Track) -> int:
    """Return how many samples the moov of the file lists."""
    box = track.samples.get(b"stsz") or track.samples.get(b"stz2")
    return 0 if box is None else fields("I", track.data, box, 8)[0]


def _add_moof(
    made: _Samples, data: memoryview, moof: Box, start: int, number: int, defaults: dict[int, Defaults]
) -> None:
    """Add the samples of the track `number` in a moof, which begins at the offset `start` of the file."""
    for traf in read_trafs(data, moof, start, defaults):
        if traf.number != number:
            continue
        if any(is_encrypted(data, box) for box in traf.inside):
            raise DrmProtected("This format is encrypted, so it cannot be merged.")
        made.go_to(decode_time(data, traf.inside))
        before = len(made.sizes)
        for _, run, at in traf.runs:
            if run.count and at < 0:
                raise damaged("a sample lies before the beginning of the file")
            if run.count:
                _add_run(made, run, at, traf.header)
        made.groups.add(data, traf.inside, before, len(made.sizes))


def decode_time(data: memoryview, inside: list[Box]) -> int | None:
    """Return the decode time in the tfdt box among `inside`, the children of a traf box. Returns None if there is no
    tfdt box. Raises `NotMedia` if the time is out of range."""
    box = next((box for box in inside if box.kind == b"tfdt"), None)
    if box is None:
        return None
    (version,) = fields("B", data, box)
    (time,) = fields("Q" if version else "I", data, box, 4)
    if time >= 1 << 62:
        raise damaged("a decode time (tfdt) is out of range")
    return time


def _add_run(made: _Samples, run: Run, offset: int, header: Header) -> None:
    defaults, before = header.defaults, len(made.sizes)
    check_count(before + run.count)
    made.add_chunk(offset, run.count, defaults.description)
    made.sizes.extend(repeat(defaults.size, run.count) if run.sizes is None else run.sizes)
    if run.durations is None:
        made.durations.add(run.count, defaults.duration)
        made.length += run.count * defaults.duration
    else:
        made.durations.extend(run.durations)
        made.length += sum(run.durations)
    if run.shifts is None:
        made.shifts.add(run.count, 0)
    else:
        made.shifts.extend(run.shifts)
    flags = repeat(defaults.flags, run.count) if run.flags is None else run.flags
    for number, flag in enumerate(flags, before + 1):
        own = run.first_flags if number == before + 1 and run.first_flags is not None else flag
        if not own & _DEPENDENT:
            made.sync.append(number)


def _edits(track: Track, made: _Samples, scale: int, end: int, *, is_open: bool) -> list[Edit]:
    """Return the edit list of the track for decode times that begin at 0 instead of `made.begin`, so that the
    presentation times do not change. `scale` is the time scale of the movie, and `end` is `made.end`. A duration of 0
    in the edit list of a fragmented file means the whole media (§8.6.6). If `is_open` is true, any duration of the last
    edit means that, too, because it covers only the samples in the moov. No edit begins before the first sample,
    because libav presents that sample at the beginning of its edit."""
    begin, first = made.begin or 0, max(0, made.shifts.values[0])
    old = track.edits or ((Edit(0, 0, 1 << 16),) if begin else ())
    edits = list[Edit]()
    for number, edit in enumerate(old, 1):
        duration = _rounded_up(edit.duration * scale, track.movie_scale)
        if edit.media_time < 0:
            edits.append(replace(edit, duration=duration))
            continue
        time = edit.media_time - begin
        if time < first and begin:
            late = _rounded_up((first - time) * scale, track.scale)
            edits.append(Edit(late, -1, edit.rate))
            duration, time = max(0, duration - late), first
        if not edit.duration or (is_open and number == len(old)):
            duration = _rounded_up(max(0, end - time) * scale, track.scale)
        edits.append(Edit(duration, time, edit.rate))
    return edits


def _rounded_up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _write_table(track: Track, made: _Samples) -> bytes:
    """Return the stbl box with the descriptions of `track` and the samples `made`."""
    count = len(made.sizes)
    size = made.sizes[0] if made.sizes.count(made.sizes[0]) == count else 0
    sizes = b"" if size else swapped(array("I", made.sizes)).tobytes()
    has_shifts = any(made.shifts.values)
    is_signed = any(value < 0 for value in made.shifts.values)
    boxes = [
        *track.tables(b"stsd"),
        *made.groups.written_descriptions(),
        write_full(b"stts", 0, 0, made.durations.packed()),
        write_full(b"ctts", int(is_signed), 0, made.shifts.packed()) if has_shifts else b"",
        _write_sync(track, made) if len(made.sync) < count else b"",
        write_full(b"stsz", 0, 0, struct.pack(">II", size, count), sizes),
        _write_chunks(made),
        write_full(b"co64", 0, 0, struct.pack(">I", len(made.chunks)), swapped(made.chunks).tobytes()),
        *(groups.box(0, count) for groups in made.groups.assigned(count)),
    ]
    return write(b"stbl", *boxes)


def _write_sync(track: Track, made: _Samples) -> bytes:
    """Return the stss box, or nothing for audio: like libav, treats all audio samples as sync samples, whatever their
    flags are."""
    if track.handler == AUDIO_HANDLER:
        return b""
    return write_full(b"stss", 0, 0, struct.pack(">I", len(made.sync)), swapped(made.sync).tobytes())


def _write_chunks(made: _Samples) -> bytes:
    runs, chunk = array("I"), 1
    for (count, description), same in groupby(zip(made.counts, made.descriptions, strict=True)):
        runs.extend((chunk, count, description))
        chunk += sum(1 for _ in same)
    return write_full(b"stsc", 0, 0, struct.pack(">I", len(runs) // 3), swapped(runs).tobytes())


def _with_media_duration(moov: bytes, length: int) -> bytes:
    """Return `moov`, which has one track, with the duration `length` in its mdhd box."""
    data, changed = memoryview(moov), bytearray(moov)
    movie = box_at(data, 0, len(data))
    assert movie is not None
    mdhd = need(by_kind(data, need(by_kind(data, need(by_kind(data, movie), b"trak")), b"mdia")), b"mdhd")
    if fields("B", data, mdhd)[0]:
        fields("Q", data, mdhd, 24)
        struct.pack_into(">Q", changed, mdhd.body + 24, length)
    else:
        struct.pack_into(">I", changed, mdhd.body + 16, min(length, _MAX_32))
    return bytes(changed)
