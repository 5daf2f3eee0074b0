"""Builder of MP4 files with one track, built box by box, so that a test determines the content of each box."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.tracks import VIDEO_HANDLER

IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


@dataclass(frozen=True)
class Film:
    """Builder of a plain (not fragmented) MP4.

    The file contains `samples` in chunks, and `chunked` lists the number of samples in each chunk. `stts` lists runs of
    samples as pairs (count, delta). A box in `replaced` replaces the box of the same kind in the sample table. `before`
    is written before the bytes of the chunks.
    """

    samples: Sequence[bytes] = (b"first", b"second", b"third")
    chunked: Sequence[int] = (2, 1)
    stts: Sequence[tuple[int, int]] = ((3, 40),)
    handler: bytes = VIDEO_HANDLER
    scale: int = 1000
    movie_scale: int = 1000
    edits: Sequence[tuple[int, int]] = ()
    descriptions: Sequence[int] = ()
    wide: bool = False
    moov_last: bool = False
    compact_bits: int = 0
    number: int = 7
    replaced: dict[bytes, bytes] = field(default_factory=dict)
    entry: bytes | None = None
    dref_flags: int = 1
    before: bytes = b""

    def __bytes__(self) -> bytes:
        ftyp = write(b"ftyp", b"isom", bytes(4), b"isom")
        mdat = write(b"mdat", self.before, *self.samples)
        begin = len(ftyp) + 8 + len(self.before)
        if self.moov_last:
            return ftyp + mdat + self.moov(begin)
        return ftyp + self.moov(begin + len(self.moov(0))) + mdat

    def moov(self, media_at: int) -> bytes:
        mvhd = write_full(
            b"mvhd",
            0,
            0,
            struct.pack(">IIII", 0, 0, self.movie_scale, 120),
            bytes(16),
            IDENTITY,
            bytes(24),
            b"\0\0\0\2",
        )
        tkhd = write_full(
            b"tkhd", 0, 3, struct.pack(">IIIII", 0, 0, self.number, 0, 120), bytes(16), IDENTITY, bytes(8)
        )
        mdhd = write_full(b"mdhd", 0, 0, struct.pack(">IIII", 0, 0, self.scale, 120), bytes(4))
        hdlr = write_full(b"hdlr", 0, 0, bytes(4), self.handler, bytes(13))
        dref = write_full(b"dref", 0, 0, b"\0\0\0\1", write_full(b"url ", 0, self.dref_flags))
        minf = write(b"minf", write_full(b"vmhd", 0, 1, bytes(8)), write(b"dinf", dref), self.table(media_at))
        edts = [write(b"edts", self._edits())] if self.edits else []
        return write(b"moov", mvhd, write(b"trak", tkhd, *edts, write(b"mdia", mdhd, hdlr, minf)))

    def table(self, media_at: int) -> bytes:
        size = b"stz2" if self.compact_bits else b"stsz"
        made = {
            b"stsd": self._descriptions(),
            b"stts": _table(b"stts", ">II", self.stts),
            b"stsc": _table(b"stsc", ">III", self._runs()),
            size: self._sizes(),
            b"stco": _table(b"co64" if self.wide else b"stco", ">Q" if self.wide else ">I", self._places(media_at)),
        } | self.replaced
        return write(b"stbl", *made.values())

    def _descriptions(self) -> bytes:
        fields = 70 if self.handler == VIDEO_HANDLER else 20
        entry = self.entry or write(b"test", bytes(6), b"\0\1", bytes(fields))
        count = max(self.descriptions, default=1)
        return write_full(b"stsd", 0, 0, struct.pack(">I", count), *[entry] * count)

    def _runs(self) -> list[tuple[int, int, int]]:
        described = list(self.descriptions) or [1] * len(self.chunked)
        return [(n, *each) for n, each in enumerate(zip(self.chunked, described, strict=True), 1)]

    def _places(self, media_at: int) -> list[tuple[int]]:
        samples = iter(self.samples)
        sizes = [sum(len(each) for each in itertools.islice(samples, count)) for count in self.chunked]
        return [(media_at + before,) for before in itertools.accumulate(sizes[:-1], initial=0)][: len(sizes)]

    def _sizes(self) -> bytes:
        sizes, bits = [len(each) for each in self.samples], self.compact_bits
        if not bits:
            return write_full(b"stsz", 0, 0, struct.pack(f">II{len(sizes)}I", 0, len(sizes), *sizes))
        if bits == 4:
            halves = [*sizes, 0]
            packed = bytes(halves[n] << 4 | halves[n + 1] for n in range(0, len(sizes), 2))
        else:
            packed = b"".join(size.to_bytes(bits // 8, "big") for size in sizes)
        return write_full(b"stz2", 0, 0, struct.pack(">II", bits, len(sizes)), packed)

    def _edits(self) -> bytes:
        return _table(b"elst", ">IiI", [(duration, time, 0x10000) for duration, time in self.edits])


def _table(kind: bytes, layout: str, rows: Sequence[tuple[int, ...]]) -> bytes:
    return write_full(kind, 0, 0, struct.pack(">I", len(rows)), *(struct.pack(layout, *row) for row in rows))


def sample_table(kind: bytes, *numbers: int) -> bytes:
    """Return an ISO BMFF full box that contains 32-bit numbers."""
    return write_full(kind, 0, 0, struct.pack(f">{len(numbers)}I", *numbers))
