"""The positions of a track's samples (ISO/IEC 14496-12 §8.6, §8.7), and the cutting of a track into chunks of one
second.

The chunks of the source file may hold one sample or the whole track. Two tracks that are cut by time can be interleaved
without look-ahead. Tables are packed arrays, checked against the file's size.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice, repeat

from serverpy.errors import TooLarge
from serverpy.media.mp4.boxes import Box, damaged, fields, need, table
from serverpy.media.mp4.tracks import Track

MAX_SAMPLES = 4 << 20
"""Maximum number of samples of one track; a day of 48 kHz AAC has 4,050,000."""
MAX_CUT_BYTES = 1 << 20
MAX_MICROSECONDS = 1 << 62
_SAMPLE_BYTES, _CUT_BYTES = 16, 80
MAX_EXTENTS = 1 << 20
"""Maximum number of extents of one track; they take 20 MB of the layout. A film of 12 hours has this many if no two of
its frames are adjacent."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a track, as packed columns. `ends[i]` is the offset, in bytes, at which sample i begins if the
    track's samples are laid end to end. `first[c]` is the number of the first sample of chunk c; the last item of
    `first` is the number of samples. Chunk c begins at offset `chunks[c]` of the file. `described` lists each sample at
    which another sample description begins, with the number of that description."""

    ends: array[int]
    first: array[int]
    chunks: array[int]
    described: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return len(self.ends) - 1


@dataclass(slots=True)
class Cuts:
    """A track cut into chunks, as packed columns. Cut k has `counts[k]` samples of the description `descriptions[k]`,
    and begins at the time `times[k]`, in microseconds; its bytes are the extents that begin with number `extents[k]`
    and end before number `extents[k+1]`. Extent e has `lengths[e]` bytes at `offsets[e]` of the file."""

    times: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("I"))
    descriptions: array[int] = field(default_factory=lambda: array("I"))
    extents: array[int] = field(default_factory=lambda: array("I", [0]))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.times)


def read_samples(track: Track, total: int) -> Samples:
    """Read the samples of `track` in a file of `total` bytes. Raises `NotMedia` if the tables contradict each other or
    point beyond the file, `TooLarge` if there are more than MAX_SAMPLES."""
    ends = array("Q", accumulate(_read_sizes(track), initial=0))
    chunks = _read_chunk_offsets(track)
    first, described = _read_chunk_runs(track, len(chunks))
    if len(ends) < 2 or first[-1] != len(ends) - 1:
        raise damaged("its chunks and its sample sizes disagree on the number of samples")
    for chunk, offset in enumerate(chunks):
        if offset + ends[first[chunk + 1]] - ends[first[chunk]] > total:
            raise damaged("a sample lies beyond the end of the file")
    return Samples(ends, first, chunks, described)


def unlisted_bytes(track: Track, total: int) -> int:
    """Estimate the memory, in bytes, that the samples and cuts of `track` take beyond a multiple of the size of their
    tables. A short table may describe many samples, because one number may stand for the size or duration of all of
    them."""
    size, count = _uniform(track)
    seconds = sum(samples * delta for samples, delta in _time_runs(track)) // track.scale
    cuts = min(count, seconds + total // MAX_CUT_BYTES + 1)
    return (_SAMPLE_BYTES * count if size else 0) + _CUT_BYTES * cuts


def _uniform(track: Track) -> tuple[int, int]:
    """Return the size in bytes that all samples have, or 0 if their sizes differ, and the number of samples."""
    box = track.samples.get(b"stsz") or need(track.samples, b"stz2")
    size, count = fields("II", track.data, box, 4)
    _check_count(count)
    return (size if box.kind == b"stsz" else 0), count


def _read_sizes(track: Track) -> Iterable[int]:
    data = track.data
    if b"stsz" not in track.samples:
        return _read_compact_sizes(track)
    box = track.samples[b"stsz"]
    size, count = fields("II", data, box, 4)
    _check_count(count)
    return repeat(size, count) if size else table("I", data, box, 12, count)


def _read_compact_sizes(track: Track) -> array[int]:
    """Read stz2 (§8.7.3.3): sizes of 4, 8 or 16 bits."""
    box = need(track.samples, b"stz2")
    bits, count = fields("BI", track.data, box, 7)
    _check_count(count)
    if bits == 16:
        return table("H", track.data, box, 12, count)
    if bits == 8:
        return table("B", track.data, box, 12, count)
    if bits != 4:
        raise damaged("its stz2 box has an invalid field size")
    pairs = table("B", track.data, box, 12, (count + 1) // 2)
    return array("B", [half for pair in pairs for half in (pair >> 4, pair & 15)])[:count]


def _check_count(count: int) -> None:
    if count > MAX_SAMPLES:
        raise TooLarge("One of the two formats has more samples than this server can index.")


def _read_chunk_offsets(track: Track) -> array[int]:
    if b"co64" in track.samples:
        box, code = track.samples[b"co64"], "Q"
    else:
        box, code = need(track.samples, b"stco"), "I"
    return table(code, track.data, box, 8, fields("I", track.data, box, 4)[0])


def _read_chunk_runs(track: Track, chunks: int) -> tuple[array[int], tuple[tuple[int, int], ...]]:
    """Read stsc (§8.7.4): runs of chunks with the same number of samples and the same description."""
    box = need(track.samples, b"stsc")
    (count,) = fields("I", track.data, box, 4)
    runs = table("I", track.data, box, 8, 3 * count)
    first, described, sample = array("I", [0]), list[tuple[int, int]](), 0
    for at in range(0, len(runs), 3):
        begin, samples, description = runs[at : at + 3]
        end = runs[at + 3] if at + 3 < len(runs) else chunks + 1
        if begin != len(first) or not begin <= end <= chunks + 1:
            raise damaged("its chunks are out of order")
        if sample + samples * (end - begin) > MAX_SAMPLES:
            raise damaged("its chunks and its sample sizes disagree on the number of samples")
        if not described or described[-1][1] != description:
            described.append((sample, description))
        first.extend(islice(accumulate(repeat(samples, end - begin), initial=sample), 1, None))
        sample += samples * (end - begin)
    if len(first) != chunks + 1:
        raise damaged("its number of chunks is inconsistent")
    return first, tuple(described)


def cut(track: Track, samples: Samples) -> Cuts:
    """Cut `samples` by seconds of decoding time and where the description changes, with at most MAX_CUT_BYTES (or one
    sample) per cut. Joins adjacent extents."""
    cuts, chunk, delay = Cuts(), 0, track.delay
    for begin, end, time, description in _windows(track, samples):
        while begin < end:
            stop = _fitting(samples.ends, begin, end)
            cuts.times.append(_bounded(time * 1_000_000 // track.scale + delay))
            cuts.counts.append(stop - begin)
            cuts.descriptions.append(description)
            chunk = _add_extents(cuts, samples, chunk, begin, stop)
            cuts.extents.append(len(cuts.offsets))
            begin = stop
        if len(cuts.offsets) > MAX_EXTENTS or len(cuts) > MAX_EXTENTS:
            raise TooLarge("One of the two formats has more chunks than this server can index.")
    return cuts


def _bounded(microseconds: int) -> int:
    if not -MAX_MICROSECONDS < microseconds < MAX_MICROSECONDS:
        raise damaged("its timestamps are out of range")
    return microseconds


def _fitting(ends: array[int], begin: int, end: int) -> int:
    """Return the end of the samples from `begin` that fit into one cut, which has at least one sample."""
    if ends[end] - ends[begin] <= MAX_CUT_BYTES:
        return end
    return max(begin + 1, bisect_right(ends, ends[begin] + MAX_CUT_BYTES, begin, end) - 1)


def _add_extents(cuts: Cuts, samples: Samples, chunk: int, begin: int, stop: int) -> int:
    """Add the extents of the samples from `begin` to before `stop`. `chunk` is the chunk of `begin`, or an earlier one.
    Returns the chunk of the last sample."""
    ends, first, offsets, lengths = samples.ends, samples.first, cuts.offsets, cuts.lengths
    before = len(offsets)
    while begin < stop:
        while first[chunk + 1] <= begin:
            chunk += 1
        end = min(stop, first[chunk + 1])
        offset = samples.chunks[chunk] + ends[begin] - ends[first[chunk]]
        length = ends[end] - ends[begin]
        if len(offsets) > before and offsets[-1] + lengths[-1] == offset:
            lengths[-1] += length
        elif length:
            offsets.append(offset)
            lengths.append(length)
        begin = end
    return chunk


def _windows(track: Track, samples: Samples) -> Iterator[tuple[int, int, int, int]]:
    """Yield begin, end, decoding time and description of the samples of each second, cut where the description
    changes."""
    changes = [at for at, _ in samples.described[1:]]
    current, upcoming = 0, [*changes, samples.count]
    for begin, end, time in _seconds(track, samples.count):
        while begin < end:
            while upcoming[current] <= begin:
                current += 1
            stop = min(end, upcoming[current])
            yield begin, stop, time, samples.described[current][1]
            begin = stop


def _seconds(track: Track, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end and decoding time of the samples of each second, by the runs of stts (§8.6.1.2). Samples that
    stts does not list belong to the last second."""
    begin = sample = time = began_at = 0
    border = track.scale
    for samples, delta in _time_runs(track):
        last = min(count, sample + samples)
        while sample < last:
            if time >= border:
                yield begin, sample, began_at
                begin, began_at, border = sample, time, (time // track.scale + 1) * track.scale
            step = min(last - sample, -((time - border) // delta)) if delta else last - sample
            sample += step
            time += step * delta
    if begin < count:
        yield begin, count, began_at


def _time_runs(track: Track) -> Iterator[tuple[int, int]]:
    box: Box = need(track.samples, b"stts")
    (count,) = fields("I", track.data, box, 4)
    runs = table("I", track.data, box, 8, 2 * count)
    return zip(runs[::2], runs[1::2], strict=True)
