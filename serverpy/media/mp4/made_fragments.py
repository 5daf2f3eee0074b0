"""The fragments that are made for a track that is not fragmented, so that it can be merged with a fragmented track
(ISO/IEC 14496-12 §8.8). The functions are pure.

Each fragment consists of a moof and the header of an mdat, which the layout holds, and of bytes of the source file. A
fragment of video begins with a sync sample if the track has sync samples often enough.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, repeat

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import fields, need, swapped, table, write, write_full
from serverpy.media.mp4.sample_groups import Assigned, SampleGroups
from serverpy.media.mp4.samples import Cuts, Samples, add_extents, count_samples, rows_of
from serverpy.media.mp4.sidx import MAX_REFERENCES, Index, Reference, too_many_blocks
from serverpy.media.mp4.tracks import AUDIO_HANDLER, Track

FRAGMENT_SECONDS = 2
"""A fragment that has reached this duration, in seconds, ends before the next sync sample."""
MOST_SECONDS = 10
MOST_BYTES = 8 << 20
"""Maximum duration, in seconds, and maximum number of bytes of samples of a fragment with more than one sample."""
_SAMPLE_BYTES, _FRAGMENT_BYTES, _GROUP_BYTES = 64, 768, 64
"""Bytes of memory that the making of a layout takes for each sample, for each fragment, and for each sbgp box of a
fragment, according to measurements and with a margin."""
_DESCRIPTION, _BASE_IS_MOOF = 0x000002, 0x020000
_RUN = 0x000001 | 0x000100 | 0x000200 | 0x000400 | 0x000800
"""Flags of a trun box (§8.8.8) with a data offset, whose entries have all four fields."""
_SYNC, _DEPENDENT = 0x02000000, 0x01010000
_BEGINS_WITH_SYNC = 0x90000000
"""Value of the SAP fields of a sidx reference (§8.16.3.3) for a fragment that begins with a sync sample."""
_MAX_32 = (1 << 32) - 1
_LARGEST_MDAT = _MAX_32 - 8


@dataclass(frozen=True, slots=True)
class Made:
    """The fragments of a track. Fragment k begins with the bytes `heads[ends[k]:ends[k + 1]]`. Its other bytes are the
    extents `cuts.extents[k]` to `cuts.extents[k + 1] - 1` of the source file. `index` has the times of the fragments:
    the offset of a reference is the number of its fragment, and its size is that of the fragment in bytes."""

    heads: bytes
    ends: array[int]
    cuts: Cuts
    index: Index


def made_bytes(track: Track, total: int) -> int:
    """Return the maximum number of bytes of memory that a layout with fragments of `track`, a track in a file of
    `total` bytes, takes in addition to one with its chunks. Raises `NotMedia` if a table of the track is damaged."""
    kinds = sum(box.kind == b"sbgp" for box in track.repeated)
    return _SAMPLE_BYTES * count_samples(track) + (_FRAGMENT_BYTES + _GROUP_BYTES * kinds) * _most_fragments(
        track, total
    )


def _most_fragments(track: Track, total: int) -> int:
    """Return the maximum number of fragments of `track`. A fragment lasts at least FRAGMENT_SECONDS, or ends before
    another sample description, or would exceed MOST_BYTES with the next sample. In the last case, it has more than
    MOST_BYTES together with the next fragment."""
    count = count_samples(track)
    seconds = sum(each * (duration & _MAX_32) for each, duration in rows_of(track, b"stts", count)) // track.scale
    box = need(track.samples, b"stsc")
    rows = table("I", track.data, box, 8, 3 * fields("I", track.data, box, 4)[0])
    described = sum(1 for _ in groupby(rows[2::3]))
    return min(count, MAX_REFERENCES, seconds // FRAGMENT_SECONDS + 2 * total // MOST_BYTES + described + 1)


def make_fragments(track: Track, samples: Samples, number: int, total: int) -> Made:
    """Return the fragments of `track`, a track in a file of `total` bytes, for a file in which the track has the number
    `number`. Raises `UnsupportedConversion` if a sample is too large for a fragment, or if there are more fragments
    than `made_bytes` counts; and `NotMedia` if a table of the track is damaged."""
    most = _most_fragments(track, total)
    if len(samples.described) > most:
        raise too_many_blocks()
    tables = _Tables.of(track, samples)
    cuts, heads, ends, references, chunk = Cuts(), bytearray(), array("Q", [0]), list[Reference](), 0
    for begin, end, description in _borders(track, samples, tables):
        if len(references) == most:  # more than an index can list, or the chunks overlap
            raise too_many_blocks()
        chunk = add_extents(cuts, samples, chunk, begin, end)
        cuts.extents.append(len(cuts.offsets))
        nbytes = samples.ends[end] - samples.ends[begin]
        if nbytes > _LARGEST_MDAT:
            raise UnsupportedConversion(
                "A sample of one of the two formats is too large for a fragment, so the formats cannot be merged."
            )
        heads += _moof(tables, samples, begin, end, description, number, len(references) + 1)
        heads += struct.pack(">I4s", nbytes + 8, b"mdat")
        size = len(heads) - ends[-1] + nbytes
        ends.append(len(heads))
        duration = tables.times[end] - tables.times[begin]
        # libav takes the time of a reference for the decode time of its first sample
        access = _BEGINS_WITH_SYNC if tables.is_sync(begin) else 0
        references.append(Reference(len(references), size, tables.times[begin], duration, access))
    return Made(bytes(heads), ends, cuts, Index(track.scale, tuple(references)))


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables of a track with an entry for each sample: the decode times, with that of the end; the differences
    between presentation and decode times; the numbers of the sync samples, or None if all are; and the sample
    groups."""

    times: array[int]
    shifts: array[int]
    sync: array[int] | None
    groups: list[Assigned]

    @classmethod
    def of(cls, track: Track, samples: Samples) -> _Tables:
        durations = _each(rows_of(track, b"stts", samples.count))
        times = array("Q", accumulate((duration & _MAX_32 for duration in durations), initial=0))
        shifts = array("i", _each(rows_of(track, b"ctts", samples.count)))
        groups = SampleGroups(track)
        groups.add_listed(samples.count)
        assigned, box = groups.assigned(samples.count), track.samples.get(b"stss")
        if box is None or track.handler == AUDIO_HANDLER:
            return cls(times, shifts, None, assigned)
        return cls(times, shifts, table("I", track.data, box, 8, fields("I", track.data, box, 4)[0]), assigned)

    def is_sync(self, sample: int) -> bool:
        if self.sync is None:
            return True
        at = bisect_right(self.sync, sample + 1)
        return at > 0 and self.sync[at - 1] == sample + 1


def _each(rows: Iterator[tuple[int, int]]) -> Iterator[int]:
    return chain.from_iterable(repeat(value, count) for count, value in rows)


def _borders(track: Track, samples: Samples, tables: _Tables) -> Iterator[tuple[int, int, int]]:
    """Yield the number of the first sample of each fragment, that of the first sample after it, and the number of the
    sample description."""
    changes = [(at, description) for at, description in samples.described]
    ends = [at for at, _ in changes[1:]] + [samples.count]
    for (first, description), last in zip(changes, ends, strict=True):
        begin = first
        while begin < last:
            end = _end(track, samples, tables, begin, last)
            yield begin, end, description
            begin = end


def _end(track: Track, samples: Samples, tables: _Tables, begin: int, last: int) -> int:
    """Return the number of the first sample after the fragment that begins with the sample `begin`."""
    times = tables.times
    least = max(begin + 1, min(last, bisect_right(times, times[begin] + FRAGMENT_SECONDS * track.scale - 1, begin)))
    most = min(last, bisect_right(times, times[begin] + MOST_SECONDS * track.scale - 1, begin))
    most = min(most, bisect_right(samples.ends, samples.ends[begin] + MOST_BYTES, begin) - 1)
    if tables.sync is not None:
        at = bisect_right(tables.sync, least)
        least = tables.sync[at] - 1 if at < len(tables.sync) else last
    return max(begin + 1, min(least, most))


def _moof(
    tables: _Tables, samples: Samples, begin: int, end: int, description: int, number: int, sequence: int
) -> bytes:
    """Return the moof of the samples `begin` to `end - 1`."""
    count, times, ends = end - begin, tables.times, samples.ends
    entries = array("I", bytes(16 * count))
    entries[0::4] = array("I", (times[n + 1] - times[n] for n in range(begin, end)))
    entries[1::4] = array("I", (ends[n + 1] - ends[n] for n in range(begin, end)))
    entries[2::4] = array("I", (_SYNC if tables.is_sync(n) else _DEPENDENT for n in range(begin, end)))
    entries[3::4] = array("I", tables.shifts[begin:end].tobytes())
    tfhd = write_full(b"tfhd", 0, _DESCRIPTION | _BASE_IS_MOOF, struct.pack(">II", number, description))
    tfdt = write_full(b"tfdt", 1, 0, struct.pack(">Q", times[begin]))
    mfhd = write_full(b"mfhd", 0, 0, struct.pack(">I", sequence))
    rows = swapped(entries).tobytes()
    groups = b"".join(each.box(begin, end) for each in tables.groups)
    trun_bytes = 20 + len(rows)
    size = 8 + len(mfhd) + 8 + len(tfhd) + len(tfdt) + trun_bytes + len(groups)
    trun = write_full(b"trun", 1, _RUN, struct.pack(">Ii", count, size + 8), rows)
    return write(b"moof", mfhd, write(b"traf", tfhd, tfdt, trun, groups))
