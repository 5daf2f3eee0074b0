"""MP4s in shapes that the muxer of libav writes only with certain options, and changes of single boxes, for tests of
merged MP4s."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serverpy.media.mp4.boxes import Box, boxes, children, write, write_full
from serverpy.sample.cut import copy
from tests.media.mp4.films import own_boxes

EMPTY = "+empty_moov+default_base_moof"
IMPLICIT = "+empty_moov+omit_tfhd_offset"
"""Options of libav with which the data of the second track of a fragment begins where that of the first ends."""
INDEXED = EMPTY + "+dash+global_sidx"
NO_INDEX = "+skip_trailer"
"""An option of libav with which the file has no mfra box."""


def remuxed(path: Path, kinds: str, movflags: str, **options: str) -> bytes:
    """Return the tracks of the types `kinds` of a file as an MP4, which libav writes with these options."""
    with tempfile.NamedTemporaryFile(
        suffix=".mp4"
    ) as out:  # to write a sidx at the beginning, libav opens the file again
        copy(path, Path(out.name), "mp4", kinds, {"movflags": movflags, **options})
        return out.read()


def in_fragments(path: Path, kinds: str, seconds: float, movflags: str = EMPTY + NO_INDEX) -> bytes:
    """Return the tracks of the types `kinds` of a file as an MP4 in fragments of about `seconds`."""
    return remuxed(path, kinds, movflags, frag_duration=str(round(seconds * 1_000_000)))


def kinds_of(film: bytes) -> list[bytes]:
    """Return the types of the top-level boxes."""
    return [box.kind for box in own_boxes(film)]


def moofs_of(film: bytes) -> list[bytes]:
    return [film[box.start : box.end] for box in own_boxes(film) if box.kind == b"moof"]


def with_padded_moofs(film: bytes, nbytes: int, only: int | None = None) -> bytes:
    """Return the fragmented MP4 with a `free` box of `nbytes` at the end of each moof, or only of the moof number
    `only`. The data offsets of the runs, which must be relative to the moof, increase by `nbytes`. Adjusts the mfra
    box."""
    parts, moved, number = list[bytes](), dict[int, int](), 0
    at = 0
    for box in own_boxes(film):
        part = bytearray(film[box.start : box.end])
        if box.kind == b"moof":
            moved[box.start] = at
            if only in (None, number):
                struct.pack_into(">I", part, 0, len(part) + nbytes)
                _move_data(part, nbytes)
                part += struct.pack(">I4s", nbytes, b"free") + bytes(nbytes - 8)
            number += 1
        elif box.kind == b"mfra":
            for old, new in moved.items():
                part = part.replace(struct.pack(">Q", old), struct.pack(">Q", new))
        parts.append(bytes(part))
        at += len(part)
    return b"".join(parts)


def with_boxes_in_trafs(film: bytes, inside: bytes) -> bytes:
    """Return the fragmented MP4, without an index and with one traf in each moof, with the boxes `inside` at the end of
    each traf. The data offsets of the runs, which must be relative to the moof, increase."""
    parts = list[bytes]()
    for box in own_boxes(film):
        part = bytearray(film[box.start : box.end])
        if box.kind == b"moof":
            _move_data(part, len(inside))
            (traf,) = (each for each in boxes(memoryview(bytes(part)), 8, len(part)) if each.kind == b"traf")
            assert traf.end == len(part)
            struct.pack_into(">I", part, traf.start, traf.end - traf.start + len(inside))
            struct.pack_into(">I", part, 0, len(part) + len(inside))
            part += inside
        parts.append(bytes(part))
    return b"".join(parts)


def _move_data(moof: bytearray, distance: int) -> None:
    data = memoryview(bytes(moof))
    for traf in boxes(data, 8, len(data)):
        for trun in children(data, traf) if traf.kind == b"traf" else ():
            if trun.kind == b"trun":
                (offset,) = struct.unpack_from(">i", data, trun.body + 8)
                struct.pack_into(">i", moof, trun.body + 8, offset + distance)


def without_data_offsets(film: bytes) -> bytes:
    """Return the MP4, whose fragments have implicit bases, without the data offsets that are 0. Their tfhd boxes become
    longer by as many bytes, so the fragments keep their sizes."""
    changed = bytearray(film)
    for moof in own_boxes(film):
        for traf in boxes(memoryview(film), moof.body, moof.end) if moof.kind == b"moof" else ():
            for trun in children(memoryview(film), traf) if traf.kind == b"traf" else ():
                if trun.kind == b"trun" and film[trun.body + 8 : trun.body + 12] == bytes(4):
                    _drop_data_offset(changed, traf, trun)
    return bytes(changed)


def _drop_data_offset(film: bytearray, traf: Box, trun: Box) -> None:
    """Drop the data offset of a trun that ends its traf. The tfhd box before it becomes 4 bytes longer: it states the
    number of the sample description, which is 1."""
    assert trun.end == traf.end
    data = bytes(film)
    tfhd = next(box for box in children(memoryview(data), traf) if box.kind == b"tfhd")
    flags = int.from_bytes(data[tfhd.body : tfhd.body + 4], "big")
    assert not flags & 3
    head = struct.pack(">I4sI", tfhd.end - tfhd.start + 4, b"tfhd", flags | 2) + data[tfhd.body + 4 : tfhd.body + 8]
    described = head + struct.pack(">I", 1) + data[tfhd.body + 8 : tfhd.end]
    runs = int.from_bytes(data[trun.body : trun.body + 4], "big") & ~1
    run = struct.pack(">I4sI", trun.end - trun.start - 4, b"trun", runs) + data[trun.body + 4 : trun.body + 8]
    film[tfhd.start : traf.end] = described + data[tfhd.end : trun.start] + run + data[trun.body + 12 : trun.end]


def with_a_sidx_of_sidxs(film: bytes) -> bytes:
    """Return the MP4 with a sidx whose only reference is to the sidx of the file."""
    sidx = next(box for box in own_boxes(film) if box.kind == b"sidx")
    size = sidx.end - sidx.start
    head = struct.pack(">IIIIHH", 1, 1000, 0, 0, 0, 1)
    outer = write_full(b"sidx", 0, 0, head, struct.pack(">III", 1 << 31 | size, 60_000, 0x90000000))
    return film[: sidx.start] + outer + film[sidx.start :]


def with_one_reference(film: bytes, scale: int, duration: int) -> bytes:
    """Return the fragmented MP4, which has no index, with a sidx that has one reference for all fragments."""
    first = film.index(b"moof") - 4
    head = struct.pack(">IIIIHH", 1, scale, 0, 0, 0, 1)
    sidx = write_full(b"sidx", 0, 0, head, struct.pack(">III", len(film) - first, duration, 0x90000000))
    return film[:first] + sidx + film[first:]


class Sparse:
    """A long fragmented MP4, of which only the bytes that are read exist: the head of `film`, and the first moof of
    `film`, repeated `fragments` times, each followed by an mdat of `nbytes`."""

    def __init__(self, film: bytes, fragments: int, nbytes: int) -> None:
        first = next(box for box in own_boxes(film) if box.kind == b"moof")
        self._head = film[: first.start]
        self._fragment = film[first.start : first.end] + struct.pack(">I4s", nbytes, b"mdat")
        self._size = first.end - first.start + nbytes
        self._fragments = fragments
        self.reads = 0

    def __len__(self) -> int:
        return len(self._head) + self._fragments * self._size

    def __getitem__(self, span: slice) -> bytes:
        self.reads += 1
        first, end = span.start, span.stop
        data = bytearray(end - first)
        for at, part in self._parts(first, end):
            begin, stop = max(at, first), min(at + len(part), end)
            if begin < stop:
                data[begin - first : stop - first] = part[begin - at : stop - at]
        return bytes(data)

    def _parts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        yield 0, self._head
        head = len(self._head)
        for number in range(max(0, (first - head) // self._size), max(0, (end - head) // self._size + 1)):
            yield head + number * self._size, self._fragment


def as_by_itunes(film: bytes, delay: int, padding: int, count: int) -> bytes:
    """Return the film, whose moov comes last, without edit lists, but with the gapless data of iTunes."""
    text = f" 00000000 {delay:08X} {padding:08X} {count:016X} {' '.join(['00000000'] * 8)}"
    item = write(
        b"----",
        write_full(b"mean", 0, 0, b"com.apple.iTunes"),
        write_full(b"name", 0, 0, b"iTunSMPB"),
        write(b"data", struct.pack(">II", 1, 0), text.encode()),
    )
    udta = write(b"udta", write_full(b"meta", 0, 0, write(b"ilst", item)))
    moov = own_boxes(film)[-1]
    assert moov.kind == b"moov"
    return film[: moov.start] + _without(film, moov, b"edts", udta)


def _without(film: bytes, parent: Box, kind: bytes, *more: bytes) -> bytes:
    """Return the box `parent`, a moov or trak, without the boxes of the type `kind` in it, and with `more` at its
    end."""
    parts = list[bytes]()
    for box in children(memoryview(film), parent):
        if box.kind == b"trak":
            parts.append(_without(film, box, kind))
        elif box.kind not in (kind, b"udta"):
            parts.append(film[box.start : box.end])
    return write(parent.kind, *parts, *more)


def with_later_times(film: bytes, ticks: int, first: int = 0) -> bytes:
    """Return the fragmented MP4 with decode times (tfdt) that are `ticks` later in all fragments from number `first`
    on."""
    changed = bytearray(film)
    for moof in [box for box in own_boxes(film) if box.kind == b"moof"][first:]:
        for traf in children(memoryview(film), moof):
            for tfdt in children(memoryview(film), traf) if traf.kind == b"traf" else ():
                if tfdt.kind == b"tfdt":
                    layout = ">Q" if film[tfdt.body] else ">I"
                    (time,) = struct.unpack_from(layout, film, tfdt.body + 4)
                    struct.pack_into(layout, changed, tfdt.body + 4, time + ticks)
    return bytes(changed)
