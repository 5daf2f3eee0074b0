"""The writer of the header of a merged MP4: ftyp, and a moov with the video track and the audio track. The writer
copies the boxes that describe the samples. It computes only the positions of the samples, the track numbers, and the
values in the movie's time scale."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby

from serverpy.media.mp4.boxes import Box, damaged, fields, swapped, write, write_full
from serverpy.media.mp4.samples import Cuts
from serverpy.media.mp4.tracks import Edit, Track

COPIED = (
    b"stsd", b"stts", b"ctts", b"cslg", b"stss", b"stps", b"stsz", b"stz2", b"sdtp", b"stdp", b"padb", b"sbgp",
    b"csgp", b"sgpd", b"subs",
)  # fmt: skip
"""Types of the boxes in a sample table that do not depend on the positions of the samples, and therefore are copied."""
_UNKNOWN_32, _UNKNOWN_64 = 2**32 - 1, 2**64 - 1
_IN_USE = 0x3
"""Flags of a tkhd box (§8.3.2): the track is enabled, and is part of the presentation. The source file of a track may
have set neither flag."""


def write_ftyp(*, fragmented: bool = False) -> bytes:
    brands = b"isomiso2iso5iso6mp41" if fragmented else b"isomiso2mp41"
    return write(b"ftyp", b"isom", struct.pack(">I", 512), brands)


def write_moov(tracks: Iterable[Track], tables: Iterable[bytes], *rest: bytes) -> bytes:
    """Return a moov box with `tracks`, which get the numbers 1, 2 and so on. `tables` are the sample tables of the
    tracks, and `rest` are boxes that follow the tracks. The time scale of the movie is `movie_scale(tracks)`."""
    tracks = list(tracks)
    scale = movie_scale(tracks)
    traks = [
        _write_trak(number, track, scale, stbl)
        for number, (track, stbl) in enumerate(zip(tracks, tables, strict=True), 1)
    ]
    return write(b"moov", _write_mvhd(tracks[0], scale, _movie_duration(tracks), len(tracks) + 1), *traks, *rest)


def movie_scale(tracks: Sequence[Track]) -> int:
    """Return the time scale for a movie of `tracks`: the least common multiple of the time scales of the movies from
    which the tracks come. In this time scale the durations in the edit lists stay exact. If the multiple is too large
    for its field, returns the time scale of the first track's movie."""
    scale = math.lcm(*(track.movie_scale for track in tracks))
    return scale if scale <= _UNKNOWN_32 else tracks[0].movie_scale


def movie_seconds(tracks: Sequence[Track]) -> float | None:
    """Return the duration, in seconds, of a movie of `tracks`. Returns None if a track does not state its duration."""
    duration = _movie_duration(tracks)
    return None if duration == _UNKNOWN_64 else duration / movie_scale(tracks)


def _movie_duration(tracks: Sequence[Track]) -> int:
    """Return the duration of the longest track in the time scale of the movie, or 2^64-1 if the duration of a track is
    unknown."""
    scale = movie_scale(tracks)
    return max(_duration(track, scale) for track in tracks)


def write_table(track: Track, cuts: Cuts, places: array[int], *, wide: bool) -> bytes:
    """Return the stbl box of a track that is not fragmented. Chunk k of the track is at the offset `places[k]` of the
    merged file. If `wide` is true, the box has 64-bit offsets."""
    copied = track.tables(*COPIED)
    offsets = swapped(array("Q" if wide else "I", places)).tobytes()
    stco = write_full(b"co64" if wide else b"stco", 0, 0, struct.pack(">I", len(places)), offsets)
    return write(b"stbl", *copied, _write_stsc(cuts), stco)


def _write_stsc(cuts: Cuts) -> bytes:
    runs, chunk = array("I"), 1
    for (count, description), same in groupby(zip(cuts.counts, cuts.descriptions, strict=True)):
        runs.extend((chunk, count, description))
        chunk += sum(1 for _ in same)
    return write_full(b"stsc", 0, 0, struct.pack(">I", len(runs) // 3), swapped(runs).tobytes())


def _write_trak(number: int, track: Track, scale: int, stbl: bytes) -> bytes:
    minf = write(b"minf", *map(track.bytes_of, track.information), stbl)
    mdia = write(b"mdia", *map(track.bytes_of, track.media), minf)
    edits = [_write_edits(track, scale)] if track.edits else []
    return write(b"trak", _write_tkhd(number, track, scale), *edits, mdia)


def _write_mvhd(track: Track, scale: int, duration: int, next_number: int) -> bytes:
    """Return an mvhd box (§8.2.2) of version 1, with the rate, volume and matrix from the source file of `track`."""
    box = track.mvhd
    created, modified, _, _, after = _times(track.data, box, between="")
    tail = bytes(track.data[after : box.end])
    if len(tail) != 80:
        raise damaged("the mvhd box has an invalid length")
    head = struct.pack(">QQIQ", created, modified, scale, duration)
    return write_full(b"mvhd", 1, 0, head, tail[:-4], struct.pack(">I", next_number))


def _write_tkhd(number: int, track: Track, scale: int) -> bytes:
    """Return a tkhd box (§8.3.2) of version 1, with the layer, volume, matrix and size from the source file of
    `track`."""
    box = track.tkhd
    created, modified, _, _, after = _times(track.data, box, between="4x")
    tail = bytes(track.data[after : box.end])
    if len(tail) != 60:
        raise damaged("the tkhd box has an invalid length")
    (flags,) = fields("I", track.data, box)
    head = struct.pack(">QQI4xQ", created, modified, number, _duration(track, scale))
    return write_full(b"tkhd", 1, flags & 0xFFFFFF | _IN_USE, head, tail)


def _times(data: memoryview, box: Box, between: str) -> tuple[int, int, int, int, int]:
    """Return the first fields of an mvhd or tkhd box (creation time, modification time, time scale or track number,
    duration), and the offset after these fields."""
    (version,) = fields("B", data, box)
    layout = f"QQI{between}Q" if version else f"III{between}I"
    created, modified, third, duration = fields(layout, data, box, 4)
    return created, modified, third, duration, box.body + 4 + struct.calcsize(f">{layout}")


def _duration(track: Track, scale: int) -> int:
    """Return the track's duration in units of `scale`, or 2^64-1 if the duration is unknown."""
    return _UNKNOWN_64 if track.duration is None else _rescale(track.duration, track.movie_scale, scale)


def _write_edits(track: Track, scale: int) -> bytes:
    """Return an edts box with an elst box of version 1. The durations in the elst are in units of `scale`, the time
    scale of the merged file."""
    entries = [_write_edit(edit, track.movie_scale, scale) for edit in track.edits]
    return write(b"edts", write_full(b"elst", 1, 0, struct.pack(">I", len(entries)), *entries))


def _write_edit(edit: Edit, old: int, new: int) -> bytes:
    return struct.pack(">QqI", _rescale(edit.duration, old, new), edit.media_time, edit.rate)


def _rescale(duration: int, old: int, new: int) -> int:
    return min((duration * new + old // 2) // old, _UNKNOWN_64)
