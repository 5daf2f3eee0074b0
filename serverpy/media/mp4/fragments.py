"""The layout of an MP4 that is merged from two tracks, of which at least one is fragmented: one moov, an index (sidx)
for each track, and the fragments of both tracks in the order of their times. A track that is not fragmented gets
fragments (`made_fragments.py`).

Merging changes numbers in a fragment, but not the length of the fragment, so the index (sidx or mfra) of each source
file gives all sizes in advance. While ServerPY sends a fragment, it patches the sequence number, the track number, and
the offsets that count from the beginning of the file (`patch_moof`).

Each track has its own sidx, and each reference begins at a fragment of that track: libav, which Chromium uses, reads
one fragment at the offset of a reference, and expects samples of the track there. If it finds none, it continues with
samples that it has read before, usually at the beginning of the file. The last sidx belongs to the track whose fragment
comes first in the file, directly after that sidx. Otherwise libav reads the header of each fragment when it opens the
file, and Chromium sends 96 requests for five minutes instead of a few.

After a seek, libav reads the video fragment, then the audio fragment, which usually precedes it, and then continues at
the video fragment. Chromium sends a request for each of these three steps.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from serverpy.errors import DrmProtected, UnsupportedConversion
from serverpy.extraction.choice import believed_duration
from serverpy.media.mp4.boxes import Box, box_at, children, damaged, fields, write, write_full
from serverpy.media.mp4.defragment import end_of
from serverpy.media.mp4.durations import write_mehd
from serverpy.media.mp4.header import movie_scale, write_ftyp, write_moov
from serverpy.media.mp4.layout import AUDIO, MADE, VIDEO, Layout
from serverpy.media.mp4.locate import Located, NoIndex
from serverpy.media.mp4.made_fragments import Made, make_fragments
from serverpy.media.mp4.mfra import read_mfra
from serverpy.media.mp4.moof import is_encrypted
from serverpy.media.mp4.own_trafs import with_own_trafs
from serverpy.media.mp4.samples import read_samples
from serverpy.media.mp4.sidx import Index, read_sidx, sidx_bytes, write_sidx
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, Track, count_tracks, find_track
from serverpy.media.mp4.trex import Defaults, defaults_of

_BASE_DATA_OFFSET = 0x000001
_NO_SAMPLES = {kind: write_full(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")}


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the two sources: its track, and the index of its fragments. `made` contains the fragments that are made
    for a source that is not fragmented, and is None otherwise. `others` contains the defaults of all tracks if the
    source is fragmented and has several tracks, and is None otherwise."""

    track: Track
    index: Index
    made: Made | None = None
    others: dict[int, Defaults] | None = None


def lay_out_fragments(video: Located, audio: Located) -> Layout:
    """Return the layout of the MP4 that is merged from `video` and `audio`, at least one of which is fragmented. Raises
    `UnsupportedConversion` if the files cannot be merged, `DrmProtected` if a file is encrypted, and `NotMedia` if a
    file is damaged."""
    parts = _part(video, VIDEO_HANDLER, VIDEO + 1), _part(audio, AUDIO_HANDLER, AUDIO + 1)
    tracks, indices = (parts[VIDEO].track, parts[AUDIO].track), (parts[VIDEO].index, parts[AUDIO].index)
    order = sorted(
        (reference.time / index.scale, source, reference.offset, reference.size)
        for source, index in enumerate(indices)
        for reference in index.references
    )
    ends = [_end_seconds(index, track) for index, track in zip(indices, tracks, strict=True)]
    seconds = believed_duration(max((end for end in ends if end is not None), default=None))
    head = write_ftyp(fragmented=True) + _write_moov(tracks, seconds)
    sizes = [sidx_bytes(len(index.references)) for index in indices]
    at = len(head) + sum(sizes)
    runs, places = _Runs(), (list[int](), list[int]())
    for _, source, offset, size in order:
        places[source].append(at)
        made = parts[source].made
        if made is None:
            runs.add(at, source, offset)
        else:
            runs.add_made(at, source, made, offset)
        at += size
    runs.starts.append(at)
    first = order[0][1]
    own, behind = list[bytes](), len(head)
    for n in (AUDIO, VIDEO) if first == VIDEO else (VIDEO, AUDIO):
        behind += sizes[n]
        own.append(write_sidx(n + 1, indices[n], places[n], at, places[n][0] - behind))
    numbers = [part.track.number if part.made is None else None for part in parts]
    return Layout(
        b"".join((head, *own)),
        runs.starts,
        runs.offsets,
        bytes(runs.sources),
        (video.total, audio.total),
        (numbers[VIDEO], numbers[AUDIO]),
        seconds,
        made=b"".join(part.made.heads for part in parts if part.made is not None),
        others=(parts[VIDEO].others, parts[AUDIO].others),
        is_indexed=True,
    )


def _end_seconds(index: Index, track: Track) -> float | None:
    """Return the time in seconds at which the presentation of a track ends, or None if it is unknown. The index states
    times of the media, to which this function adds the delay of the edit list, which is exact to the microsecond."""
    end = index.end_seconds
    return end if end is None or not track.delay else round(end + track.delay / 1_000_000, 6)


class _Runs:
    """The runs of a `Layout`, as arrays. The caller appends the end of the file to `starts`."""

    def __init__(self) -> None:
        self.starts, self.offsets, self.sources = array("Q"), array("Q"), bytearray()

    def add(self, at: int, source: int, offset: int) -> None:
        self.starts.append(at)
        self.offsets.append(offset)
        self.sources.append(source)

    def add_made(self, at: int, source: int, made: Made, number: int) -> None:
        """Add the runs of the made fragment `number`: its beginning, and its samples."""
        self.add(at, MADE, made.ends[number])
        at += made.ends[number + 1] - made.ends[number]
        for extent in range(made.cuts.extents[number], made.cuts.extents[number + 1]):
            self.add(at, source, made.cuts.offsets[extent])
            at += made.cuts.lengths[extent]


def _part(source: Located, handler: bytes, number: int) -> _Part:
    track = find_track(source.moov, handler)
    if not source.fragmented:
        made = make_fragments(track, read_samples(track, source.total), number, source.total)
        return _Part(track, made.index, made)
    box = track.samples.get(b"stsz")
    if box is not None and fields("I", track.data, box, 8)[0]:
        raise UnsupportedConversion(
            "One of the two formats has samples both in its moov box and in fragments, so the formats cannot be merged."
        )
    others = defaults_of(source.moov) if count_tracks(source.moov) > 1 else None
    # if the fragments cannot be merged, `patch_moof` raises an error here, before ServerPY sends the first byte
    own = source.moof if others is None else with_own_trafs(source.moof, source.moof_start, track.number, others)
    patch_moof(own, track.number, 1, 1, 0)
    return _Part(track, _index_of(source, track), others=others)


def _index_of(source: Located, track: Track) -> Index:
    if source.sidx is not None:
        return read_sidx(source.sidx, source.sidx_end, source.total)
    if source.mfra:
        end = source.total - len(source.mfra)
        end_time = None if source.tail is None else end_of(source.tail, track.number, defaults_of(source.moov))
        return read_mfra(source.mfra, track.number, track.scale, source.moof_start, end, end_time)
    raise NoIndex


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
    `shift` bytes. Offsets that count from the moof, or from the data of an earlier traf of the track (§8.8.7), do not
    change. Raises `NotMedia` if the moof is damaged or belongs to another track, and `DrmProtected` if the fragment is
    encrypted."""
    data, patched = memoryview(moof), bytearray(moof)
    box = box_at(data, 0, len(data))
    if box is None:
        raise damaged("a fragment has an invalid moof box")
    for child in children(data, box):
        if child.kind == b"mfhd":
            fields("I", data, child, 4)
            struct.pack_into(">I", patched, child.body + 4, sequence & 0xFFFFFFFF)
        elif child.kind == b"traf":
            _patch_traf(data, patched, child, old_number, new_number, shift)
    return bytes(patched)


def _patch_traf(data: memoryview, patched: bytearray, traf: Box, old_number: int, new_number: int, shift: int) -> None:
    for box in children(data, traf):
        if is_encrypted(data, box):
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
