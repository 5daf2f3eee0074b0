"""The layout of an MP4 that is merged from two tracks that are not fragmented: one moov, then one mdat with the chunks
of both tracks in the order of their times. If a video and an audio chunk have the same time, the video chunk comes
first."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from serverpy.media.mp4.header import movie_seconds, write_ftyp, write_moov, write_table
from serverpy.media.mp4.layout import AUDIO, VIDEO, Layout
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.samples import Cuts, cut, read_samples
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, Track, find_track

_WIDE_FROM = 0xF0000000
"""Size of the content of the mdat, in bytes, above which chunk offsets have 64 bits. Up to this size, offsets of 32
bits suffice for the header and the mdat together."""


def lay_out_plain(video: Located, audio: Located) -> Layout:
    """Return the layout of the MP4 that is merged from `video` and `audio`. Raises the errors of `lay_out`."""
    tracks = find_track(video.moov, VIDEO_HANDLER), find_track(audio.moov, AUDIO_HANDLER)
    cuts = _cut(tracks[VIDEO], video.total), _cut(tracks[AUDIO], audio.total)
    places = array("Q"), array("Q")
    starts, offsets, sources = array("Q"), array("Q"), bytearray()
    at = 0
    for source, number in _in_order(*cuts):
        own = cuts[source]
        places[source].append(at)
        for extent in range(own.extents[number], own.extents[number + 1]):
            if not (sources and sources[-1] == source and offsets[-1] + at - starts[-1] == own.offsets[extent]):
                starts.append(at)
                offsets.append(own.offsets[extent])
                sources.append(source)
            at += own.lengths[extent]
    header = _write_header(tracks, cuts, places, at)
    starts.append(at)
    starts = _moved(starts, len(header))
    sizes = video.total, audio.total
    return Layout(header, starts, offsets, bytes(sources), sizes, seconds=movie_seconds(tracks))


def _cut(track: Track, total: int) -> Cuts:
    """Read the sample positions of `track`, and divide the track into chunks. Keeps only the chunks: the sample
    positions take most of the memory, and are freed before the caller reads the other track."""
    return cut(track, read_samples(track, total))


def _in_order(video: Cuts, audio: Cuts) -> Iterator[tuple[int, int]]:
    """Yield the source (video or audio) and the number of each chunk, in the order of the chunks' times. The chunks of
    one track keep their order."""
    number = 0
    for mine, time in enumerate(video.times):
        while number < len(audio) and audio.times[number] < time:
            yield AUDIO, number
            number += 1
        yield VIDEO, mine
    while number < len(audio):
        yield AUDIO, number
        number += 1


def _write_header(
    tracks: tuple[Track, Track], cuts: tuple[Cuts, Cuts], places: tuple[array[int], array[int]], media_bytes: int
) -> bytes:
    """Return the header of the merged file: ftyp, moov and the header of mdat. The length of a moov does not depend on
    the offsets in it, so the function writes the moov twice: first to measure the length, and then with the offsets
    that result from that length."""
    wide = media_bytes > _WIDE_FROM
    mdat = struct.pack(">I4sQ", 1, b"mdat", media_bytes + 16) if wide else struct.pack(">I4s", media_bytes + 8, b"mdat")
    ftyp = write_ftyp()

    def moov(first: int) -> bytes:
        own = [
            write_table(*each, wide=wide)
            for each in zip(tracks, cuts, [_moved(each, first) for each in places], strict=True)
        ]
        return write_moov(tracks, own)

    return b"".join((ftyp, moov(len(ftyp) + len(moov(0)) + len(mdat)), mdat))


def _moved(places: array[int], by: int) -> array[int]:
    return array("Q", (place + by for place in places))
