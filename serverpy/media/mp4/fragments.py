"""The layout of an MP4 that is merged from two fragmented tracks: one moov, an index (sidx) for each track, and the
fragments of both tracks in the order of their times.

Merging changes numbers in a fragment, but not the length of the fragment, so the index (sidx or mfra) of each source
file gives all sizes in advance. While ServerPY sends a fragment, it patches the sequence number, the track number, and
the offsets that count from the beginning of the file (`patch_moof`).

Each track has its own sidx, because a single sidx for both tracks makes Chromium's seeks slow and libav lose audio. The
last sidx belongs to the track whose fragment comes first in the file: according to measurements, Chromium then opens a
file of five minutes with 7 requests instead of 96.
"""

from __future__ import annotations

import struct
from array import array

from serverpy.errors import DrmProtected, UnsupportedConversion
from serverpy.extraction.choice import believed_duration
from serverpy.media.mp4.boxes import Box, box_at, children, damaged, fields, write, write_full
from serverpy.media.mp4.durations import write_mehd
from serverpy.media.mp4.header import movie_scale, write_ftyp, write_moov
from serverpy.media.mp4.layout import AUDIO, VIDEO, Layout
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.mfra import read_mfra
from serverpy.media.mp4.sidx import Index, read_sidx, sidx_bytes, write_sidx
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, Track, count_tracks, find_track

_BASE_DATA_OFFSET, _BASE_IS_MOOF = 0x000001, 0x020000
_ENCRYPTED = frozenset({b"senc", b"saio", b"saiz"})
_NO_SAMPLES = {kind: write_full(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")}


def lay_out_fragments(video: Located, audio: Located) -> Layout:
    """Return the layout of the MP4 that is merged from `video` and `audio`. Raises `UnsupportedConversion` if the files
    cannot be merged, `DrmProtected` if a file is encrypted, and `NotMedia` if a file is damaged."""
    tracks = _only_track(video, VIDEO_HANDLER), _only_track(audio, AUDIO_HANDLER)
    indices = _index_of(video, tracks[VIDEO]), _index_of(audio, tracks[AUDIO])
    for located, track in zip((video, audio), tracks, strict=True):
        # if the fragments cannot be merged, `patch_moof` raises an error here, before ServerPY sends the first byte
        patch_moof(located.moof, track.number, 1, 1, 0)
    order = sorted(
        (reference.time / index.scale, source, reference.offset, reference.size)
        for source, index in enumerate(indices)
        for reference in index.references
    )
    ends = [index.end_seconds for index in indices if index.end_seconds is not None]
    seconds = believed_duration(max(ends, default=None))
    head = write_ftyp(fragmented=True) + _write_moov(tracks, seconds)
    sizes = [sidx_bytes(len(index.references)) for index in indices]
    at = len(head) + sum(sizes)
    starts, offsets, places = array("Q"), array("Q"), (list[int](), list[int]())
    for _, source, offset, size in order:
        starts.append(at)
        offsets.append(offset)
        places[source].append(at)
        at += size
    starts.append(at)
    first = order[0][1]
    own, behind = list[bytes](), len(head)
    for n in (AUDIO, VIDEO) if first == VIDEO else (VIDEO, AUDIO):
        behind += sizes[n]
        own.append(write_sidx(n + 1, indices[n], places[n], at, places[n][0] - behind))
    header = b"".join((head, *own))
    numbers = tracks[VIDEO].number, tracks[AUDIO].number
    sources = bytes(source for _, source, _, _ in order)
    return Layout(header, starts, offsets, sources, (video.total, audio.total), numbers, seconds)


def _only_track(source: Located, handler: bytes) -> Track:
    track = find_track(source.moov, handler)
    if count_tracks(source.moov) != 1:
        raise UnsupportedConversion(
            "One of the two formats is a fragmented MP4 with more than one track, so the formats cannot be merged."
        )
    box = track.samples.get(b"stsz")
    if box is not None and fields("I", track.data, box, 8)[0]:
        raise UnsupportedConversion(
            "One of the two formats has samples both in its moov box and in fragments, so the formats cannot be merged."
        )
    return track


def _index_of(source: Located, track: Track) -> Index:
    if source.sidx is not None:
        return read_sidx(source.sidx, source.sidx_end, source.total)
    if source.mfra:
        end = source.total - len(source.mfra)
        return read_mfra(source.mfra, track.number, track.scale, source.moof_start, end)
    raise UnsupportedConversion(
        "One of the two formats is a fragmented MP4 without an index (sidx or mfra), so the formats cannot be merged."
    )


def _write_moov(tracks: tuple[Track, Track], seconds: float | None) -> bytes:
    """Return the moov of the merged file, which lasts `seconds`, or whose duration is unknown if `seconds` is None.
    Firefox takes the duration from the mehd box or, without this box, from the fragments that it has loaded."""
    mehd = [] if seconds is None else [write_mehd(seconds, movie_scale(tracks))]
    trex = [write_trex(number, track) for number, track in enumerate(tracks, 1)]
    return write_moov(tracks, map(write_empty_table, tracks), write(b"mvex", *mehd, *trex))


def write_empty_table(track: Track) -> bytes:
    """Return an stbl box with the sample descriptions of `track`, but without samples."""
    copied = track.tables(b"stsd", b"sgpd")
    return write(b"stbl", *copied, *_NO_SAMPLES.values(), write_full(b"stsz", 0, 0, bytes(8)))


def write_trex(number: int, track: Track) -> bytes:
    """Return a trex box for the track with this number: the defaults for fields that the fragments leave out
    (§8.8.3)."""
    defaults = (1, 0, 0, 0) if track.trex is None else fields("IIII", track.data, track.trex, 8)
    return write_full(b"trex", 0, 0, struct.pack(">IIIII", number, *defaults))


def patch_moof(moof: bytes, old_number: int, new_number: int, sequence: int, shift: int) -> bytes:
    """Return a copy of `moof` for another file, with three changes: the sequence number becomes `sequence`, the track
    number `old_number` becomes `new_number`, and the offsets that count from the beginning of the file increase by
    `shift` bytes. Raises `NotMedia` if the moof is damaged or belongs to another track, `DrmProtected` if the fragment
    is encrypted, and `UnsupportedConversion` if the offsets of a track fragment depend on an earlier track fragment."""
    data, patched = memoryview(moof), bytearray(moof)
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("a fragment has an invalid moof box")
    trafs = 0
    for child in children(data, box):
        if child.kind == b"mfhd":
            fields("I", data, child, 4)
            struct.pack_into(">I", patched, child.body + 4, sequence & 0xFFFFFFFF)
        elif child.kind == b"traf":
            trafs += 1
            _patch_traf(data, patched, child, old_number, new_number, shift, is_first=trafs == 1)
    return bytes(patched)


def _patch_traf(
    data: memoryview, patched: bytearray, traf: Box, old_number: int, new_number: int, shift: int, *, is_first: bool
) -> None:
    for box in children(data, traf):
        if box.kind in _ENCRYPTED:
            raise DrmProtected("This format is encrypted, so it cannot be merged.")
        if box.kind != b"tfhd":
            continue
        flags, number = fields("II", data, box)
        if number != old_number:
            raise damaged("a tfhd box has a track ID that the moov box does not have")
        struct.pack_into(">I", patched, box.body + 4, new_number)
        if flags & _BASE_DATA_OFFSET:
            (base,) = fields("Q", data, box, 8)
            struct.pack_into(">Q", patched, box.body + 8, (base + shift) & 0xFFFFFFFFFFFFFFFF)
        elif not flags & _BASE_IS_MOOF and not is_first:
            raise UnsupportedConversion(
                "In one of the two formats, the data offset of a traf box depends on another traf box, so the formats "
                "cannot be merged."
            )
