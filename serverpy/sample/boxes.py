"""Functions that rewrite MP4 files into layouts that muxers seldom write but parsers must support."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
BASE_DATA_OFFSET = 0x000001
DATA_OFFSET, FIRST_SAMPLE_FLAGS, SAMPLE_DURATIONS, SAMPLE_SIZES = 0x000001, 0x000004, 0x000100, 0x000200
RUN_HEAD_BYTES = 20
SIDX_ENTRIES = 32
"""Offset in bytes of the first reference in the content of a version 1 `sidx` (ISO/IEC 14496-12 §8.16.3)."""
WIDE_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Box:
    """A box (ISO/IEC 14496-12 §4.2) with a 32-bit size. `start` and `stop` are the offsets of its content in the
    file."""

    kind: bytes
    start: int
    stop: int


def boxes(film: bytes, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """Yield the boxes between the offsets `start` and `stop`, without the boxes inside them."""
    end = len(film) if stop is None else stop
    while start < end:
        size, kind = struct.unpack_from(">I4s", film, start)
        assert 8 <= size <= end - start, f"no box at {start}"
        yield Box(kind, start + 8, start + size)
        start += size


def each_sample_a_chunk(film: bytes) -> bytes:
    """Return the MP4 `film` with a chunk for each sample. `film` must have one track, and its `mdat` before its
    `moov`."""
    (offset,) = (box.start for box in boxes(film) if box.kind == b"mdat")
    sizes = _sample_sizes(film)
    offsets = list(accumulate(sizes[:-1], initial=offset))
    chunks = _full_box(b"stco", struct.pack(f">I{len(offsets)}I", len(offsets), *offsets))
    return _with_moov(film, film[:offset], {b"stsc": _chunk_sizes(1), b"stco": chunks})


def one_wide_chunk(film: bytes) -> bytes:
    """Return the MP4 `film` with all samples in one chunk. `film` must have one track, and its `mdat` before its
    `moov`. The size of `mdat` and the chunk offset get 64 bits although 32 bits would suffice."""
    (mdat,) = (box for box in boxes(film) if box.kind == b"mdat")
    size = mdat.stop - mdat.start + WIDE_HEAD_BYTES
    head = film[: mdat.start - 8] + struct.pack(">I4sQ", 1, b"mdat", size)
    chunk = _full_box(b"co64", struct.pack(">IQ", 1, len(head)))
    return _with_moov(film, head, {b"stsc": _chunk_sizes(len(_sample_sizes(film))), b"stco": chunk})


def based_on_their_places(film: bytes) -> bytes:
    """Correct the base data offsets (ISO/IEC 14496-12 §8.8.7) in a fragmented MP4: libav writes these offsets as if
    there were no `sidx` before the fragments."""
    out = bytearray(film)
    for moof in boxes(film):
        if moof.kind == b"moof":
            for box in within(film, moof.start, moof.stop):
                if box.kind == b"tfhd":
                    (flags,) = struct.unpack_from(">I", film, box.start)
                    assert flags & BASE_DATA_OFFSET
                    struct.pack_into(">Q", out, box.start + 8, moof.start - 8)
    return bytes(out)


def in_two_runs(film: bytes) -> bytes:
    """Split the `trun` of each fragment into two. The MP4 `film` must be fragmented and have exactly one `sidx`."""
    out = bytearray()
    for box in boxes(film):
        if box.kind == b"mfra":
            break
        whole = film[box.start - 8 : box.stop]
        out += rebuilt(film, box, {b"trun": _two_runs(film, box)}) if box.kind == b"moof" else whole
    (index,) = (box for box in boxes(film) if box.kind == b"sidx")
    place = index.start + SIDX_ENTRIES
    while place < index.stop:
        (size,) = struct.unpack_from(">I", film, place)
        struct.pack_into(">I", out, place, size + RUN_HEAD_BYTES)
        place += 12
    return bytes(out)


def _two_runs(film: bytes, moof: Box) -> bytes:
    """Return two `trun` boxes that replace the only `trun` of a `moof` (ISO/IEC 14496-12 §8.8.8). The `moof` grows by
    the header of the second `trun`."""
    (run,) = (box for box in within(film, moof.start, moof.stop) if box.kind == b"trun")
    flags, count, offset = struct.unpack_from(">IIi", film, run.start)
    assert flags & DATA_OFFSET
    assert flags & SAMPLE_SIZES
    entry_bytes = 4 * (flags >> 8 & 0xF).bit_count()
    entries = run.start + 12 + 4 * bool(flags & FIRST_SAMPLE_FLAGS)
    half = count // 2
    middle = entries + half * entry_bytes
    sizes = range(entries + 4 * bool(flags & SAMPLE_DURATIONS), middle, entry_bytes)
    before = sum(struct.unpack_from(">I", film, place)[0] for place in sizes)
    offset += RUN_HEAD_BYTES
    first = struct.pack(">IIi", flags, half, offset) + film[run.start + 12 : middle]
    second = struct.pack(">IIi", flags & ~FIRST_SAMPLE_FLAGS, count - half, offset + before) + film[middle : run.stop]
    return b"".join(struct.pack(">I4s", len(content) + 8, b"trun") + content for content in (first, second))


def _with_moov(film: bytes, head: bytes, changed: dict[bytes, bytes]) -> bytes:
    """Return an MP4 file made of `head`, an `mdat` with the given content, and `moov` with the boxes in `changed`
    replaced."""
    inside = {box.kind: box for box in boxes(film)}
    mdat, moov = inside[b"mdat"], inside[b"moov"]
    return head + film[mdat.start : mdat.stop] + rebuilt(film, moov, changed)


def rebuilt(film: bytes, box: Box, changed: dict[bytes, bytes]) -> bytes:
    if box.kind in changed:
        return changed[box.kind]
    if box.kind not in CONTAINERS:
        return film[box.start - 8 : box.stop]
    content = b"".join(rebuilt(film, child, changed) for child in boxes(film, box.start, box.stop))
    return struct.pack(">I4s", len(content) + 8, box.kind) + content


def _sample_sizes(film: bytes) -> tuple[int, ...]:
    """Return the size in bytes of each sample, from `stsz` (ISO/IEC 14496-12 §8.7.3). The box has a table of sizes, or
    one size for all samples."""
    (stsz,) = (box for box in within(film) if box.kind == b"stsz")
    size, count = struct.unpack_from(">II", film, stsz.start + 4)
    return (size,) * count if size else struct.unpack_from(f">{count}I", film, stsz.start + 12)


def within(film: bytes, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """Yield all boxes between the offsets `start` and `stop`, at every depth. Each box comes before the boxes inside
    it."""
    for box in boxes(film, start, stop):
        yield box
        if box.kind in CONTAINERS:
            yield from within(film, box.start, box.stop)


def _chunk_sizes(samples: int) -> bytes:
    return _full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1))


def _full_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sI", len(content) + 12, kind, 0) + content
