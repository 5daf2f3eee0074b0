"""The parser of the sample positions of a track (ISO/IEC 14496-12 §8.6, §8.7), and the division of the track into new
chunks of one second.

The new chunks replace the chunks of the source file. A chunk of the source file may have only one sample, or the whole
track, but two tracks that are cut by time can be interleaved without look-ahead. The functions check that all samples
lie within the file.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice, repeat

from serverpy.errors import UnsupportedConversion
from serverpy.media.mp4.boxes import Box, damaged, fields, need, table
from serverpy.media.mp4.tracks import Track

MAX_SAMPLES = 4 << 20
"""Maximum number of samples of one track. One day of AAC at 48 kHz has 4,050,000 samples."""
MAX_CUT_BYTES = 1 << 20
MAX_MICROSECONDS = 1 << 62
_SAMPLE_BYTES, _CUT_BYTES = 16, 80
MAX_EXTENTS = 1 << 20
"""Maximum number of extents (contiguous bytes in the source file) of one track. This many extents take 20 MB of memory,
and suffice for a video of 12 hours in whose file no two frames are adjacent."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a track, as arrays. `ends[i]` is the sum of the sizes of the samples before sample i, in bytes.
    `first[c]` is the number of the first sample of chunk c; the last item of `first` is the number of samples. Chunk c
    begins at offset `chunks[c]` of the file. `described` lists each sample at which the sample description changes: the
    number of the sample, and the number of its description."""

    ends: array[int]
    first: array[int]
    chunks: array[int]
    described: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return len(self.ends) - 1


@dataclass(slots=True)
class Cuts:
    """The division of a track into new chunks, as arrays. Chunk k has `counts[k]` samples with the sample description
    `descriptions[k]`, and begins at the time `times[k]`, in microseconds. The bytes of chunk k are the extents
    `extents[k]` to `extents[k+1] - 1`. Extent e is `lengths[e]` contiguous bytes at offset `offsets[e]` of the source
    file."""

    times: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("I"))
    descriptions: array[int] = field(default_factory=lambda: array("I"))
    extents: array[int] = field(default_factory=lambda: array("I", [0]))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.times)


def read_samples(track: Track, total: int) -> Samples:
    """Read the samples of `track` in a file of `total` bytes. Raises `NotMedia` if the sample tables contradict each
    other or point beyond the file, and `UnsupportedConversion` if the track has more than MAX_SAMPLES samples."""
    ends = array("Q", accumulate(_read_sizes(track), initial=0))
    chunks = _read_chunk_offsets(track)
    first, described = _read_chunk_runs(track, len(chunks))
    if len(ends) < 2 or first[-1] != len(ends) - 1:
        raise damaged("the stsc box and the sample size table disagree on the number of samples")
    for chunk, offset in enumerate(chunks):
        if offset + ends[first[chunk + 1]] - ends[first[chunk]] > total:
            raise damaged("a sample lies beyond the end of the file")
    return Samples(ends, first, chunks, described)


def unlisted_bytes(track: Track, total: int) -> int:
    """Estimate how many bytes of memory the `Samples` and `Cuts` of `track` take in addition to what the size of the
    track's tables suggests. A short table may describe many samples, because a single number may state the size or the
    duration of all samples."""
    size, count = _uniform(track)
    seconds = sum(samples * delta for samples, delta in _time_runs(track)) // track.scale
    cuts = min(count, seconds + total // MAX_CUT_BYTES + 1)
    return (_SAMPLE_BYTES * count if size else 0) + _CUT_BYTES * cuts


def _uniform(track: Track) -> tuple[int, int]:
    """Return two numbers: the size in bytes of each sample (0 if the samples have different sizes), and the number of
    samples."""
    box = track.samples.get(b"stsz") or need(track.samples, b"stz2")
    size, count = fields("II", track.data, box, 4)
    check_count(count)
    return (size if box.kind == b"stsz" else 0), count


def count_samples(track: Track) -> int:
    """Return the number of samples of `track`. Raises the errors of `read_samples`."""
    return _uniform(track)[1]


def _read_sizes(track: Track) -> Iterable[int]:
    data = track.data
    if b"stsz" not in track.samples:
        return _read_compact_sizes(track)
    box = track.samples[b"stsz"]
    size, count = fields("II", data, box, 4)
    check_count(count)
    return repeat(size, count) if size else table("I", data, box, 12, count)


def _read_compact_sizes(track: Track) -> array[int]:
    """Return the sample sizes from the stz2 box (§8.7.3.3), which has 4, 8 or 16 bits for each size."""
    box = need(track.samples, b"stz2")
    bits, count = fields("BI", track.data, box, 7)
    check_count(count)
    if bits == 16:
        return table("H", track.data, box, 12, count)
    if bits == 8:
        return table("B", track.data, box, 12, count)
    if bits != 4:
        raise damaged("the stz2 box has an invalid field size")
    pairs = table("B", track.data, box, 12, (count + 1) // 2)
    return array("B", [half for pair in pairs for half in (pair >> 4, pair & 15)])[:count]


def check_count(count: int) -> None:
    if count > MAX_SAMPLES:
        raise UnsupportedConversion(
            "One of the two formats has more samples than this server can index, so the formats cannot be merged."
        )


def _read_chunk_offsets(track: Track) -> array[int]:
    if b"co64" in track.samples:
        box, code = track.samples[b"co64"], "Q"
    else:
        box, code = need(track.samples, b"stco"), "I"
    return table(code, track.data, box, 8, fields("I", track.data, box, 4)[0])


def _read_chunk_runs(track: Track, chunks: int) -> tuple[array[int], tuple[tuple[int, int], ...]]:
    """Read the stsc box (§8.7.4), which lists runs of chunks with the same number of samples and the same sample
    description. Returns `Samples.first` and `Samples.described`."""
    box = need(track.samples, b"stsc")
    (count,) = fields("I", track.data, box, 4)
    runs = table("I", track.data, box, 8, 3 * count)
    first, described, sample = array("I", [0]), list[tuple[int, int]](), 0
    for at in range(0, len(runs), 3):
        begin, samples, description = runs[at : at + 3]
        end = runs[at + 3] if at + 3 < len(runs) else chunks + 1
        if begin != len(first) or not begin <= end <= chunks + 1:
            raise damaged("the entries of the stsc box are out of order")
        if sample + samples * (end - begin) > MAX_SAMPLES:
            raise damaged("the stsc box and the sample size table disagree on the number of samples")
        if not described or described[-1][1] != description:
            described.append((sample, description))
        first.extend(islice(accumulate(repeat(samples, end - begin), initial=sample), 1, None))
        sample += samples * (end - begin)
    if len(first) != chunks + 1:
        raise damaged("the stsc box and the chunk offset table disagree on the number of chunks")
    return first, tuple(described)


def rows_of(track: Track, kind: bytes, samples: int) -> Iterator[tuple[int, int]]:
    """Yield the rows of a table that describes `samples` samples in runs (stts, ctts): a count and a signed number.
    Yields a last row of zeros if the table describes fewer samples, or does not exist. Raises `NotMedia` if the table
    describes more."""
    if (box := track.samples.get(kind)) is not None:
        (count,) = fields("I", track.data, box, 4)
        if 8 * count > box.end - box.body - 8:
            raise damaged(f"the {box.name} box is shorter than the table in it")
        for own, value in struct.iter_unpack(">Ii", track.data[box.body + 8 : box.body + 8 + 8 * count]):
            samples -= own
            if samples < 0:
                raise damaged(f"the {box.name} box describes more samples than the track has")
            yield own, value
    yield samples, 0


def cut(track: Track, samples: Samples) -> Cuts:
    """Divide `samples` into new chunks. A chunk ends at each full second of decoding time, before a sample with another
    sample description, and before a sample with which the chunk would exceed MAX_CUT_BYTES. Each chunk has at least one
    sample. Joins adjacent extents."""
    cuts, chunk, delay = Cuts(), 0, track.delay
    for begin, end, time, description in _windows(track, samples):
        while begin < end:
            stop = _fitting(samples.ends, begin, end)
            cuts.times.append(_bounded(time * 1_000_000 // track.scale + delay))
            cuts.counts.append(stop - begin)
            cuts.descriptions.append(description)
            chunk = add_extents(cuts, samples, chunk, begin, stop)
            cuts.extents.append(len(cuts.offsets))
            begin = stop
        if len(cuts.offsets) > MAX_EXTENTS or len(cuts) > MAX_EXTENTS:
            raise UnsupportedConversion(
                "One of the two formats has more chunks than this server can index, so the formats cannot be merged."
            )
    return cuts


def _bounded(microseconds: int) -> int:
    if not -MAX_MICROSECONDS < microseconds < MAX_MICROSECONDS:
        raise damaged("a timestamp of a sample is out of range")
    return microseconds


def _fitting(ends: array[int], begin: int, end: int) -> int:
    """Return the number of the first sample after the chunk that begins with sample `begin`. The chunk ends before
    sample `end` at the latest. It has at most MAX_CUT_BYTES, unless its first sample alone has more."""
    if ends[end] - ends[begin] <= MAX_CUT_BYTES:
        return end
    return max(begin + 1, bisect_right(ends, ends[begin] + MAX_CUT_BYTES, begin, end) - 1)


def add_extents(cuts: Cuts, samples: Samples, chunk: int, begin: int, stop: int) -> int:
    """Add the extents of the samples `begin` to `stop - 1` to `cuts`. `chunk` is the number of the chunk of the source
    file that contains sample `begin`, or of an earlier chunk. Returns the number of the chunk that contains the last of
    the samples."""
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
    """Yield a tuple for the samples of each second: the number of the first sample, the number after that of the last
    sample, the decoding time of the second's first sample, and the number of the sample description. If the samples of
    one second have different descriptions, each description gets its own tuple."""
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
    """Yield a tuple for the samples of each second: the number of the first sample, the number after that of the last
    sample, and the decoding time of the first sample. The times come from the stts box (§8.6.1.2). Samples that the
    stts box does not list belong to the last second."""
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
