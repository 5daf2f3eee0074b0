"""Tests that two plain (not fragmented) MP4s become one file, from which a demuxer reads the same packets as from the
two sources."""

from __future__ import annotations

import io
import itertools
import random
import struct
import tracemalloc
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.layout import AUDIO, VIDEO, Layout
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.plain import lay_out_plain
from serverpy.media.mp4.samples import read_samples
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track
from serverpy.media.mp4.woven import peak_bytes
from tests.media.mp4.building import Film, sample_table
from tests.media.mp4.films import located, packets

SMALL_BYTES = 64 * 1024
PAIRS = {
    "moov first": ("video-only.mp4", "audio-only.mp4"),
    "one of two tracks": ("prog.mp4", "audio.m4a"),
    "moov last, both from one file": ("moov-last.mp4", "moov-last.mp4"),
}


def laid_out(video: bytes, audio: bytes) -> Layout:
    return lay_out_plain(located(video), located(audio))


def read(layout: Layout, video: bytes, audio: bytes, first: int = 0, end: int | None = None) -> bytes:
    """Return the bytes of the merged MP4 from the offset `first` up to but not including the offset `end`, or up to the
    end of the file if `end` is None."""
    sources = video, audio, layout.header
    return b"".join(
        sources[piece.source][piece.offset : piece.offset + piece.length]
        for piece in layout.read(first, layout.total if end is None else end)
    )


@pytest.mark.parametrize(("video_name", "audio_name"), PAIRS.values(), ids=PAIRS)
def test_a_merged_mp4_has_the_packets_of_its_sources(media: Path, video_name: str, audio_name: str) -> None:
    video, audio = (media / video_name).read_bytes(), (media / audio_name).read_bytes()
    layout = laid_out(video, audio)
    film = read(layout, video, audio)
    assert len(film) == layout.total
    assert packets(film, "video") == packets(video, "video")
    assert packets(film, "audio") == packets(audio, "audio")


def test_every_range_of_a_merged_mp4_is_a_slice_of_the_whole_file(media: Path) -> None:
    video, audio = (media / "video-only.mp4").read_bytes(), (media / "audio.m4a").read_bytes()
    layout = laid_out(video, audio)
    film = read(layout, video, audio)
    dice = random.Random(1)
    for _ in range(200):
        first, end = sorted(dice.sample(range(len(film) + 1), 2))
        assert read(layout, video, audio, first, end) == film[first:end]


def samples_of(film: bytes, handler: bytes) -> list[bytes]:
    """Return each sample of a track, as read at the offset that the sample tables of `film` state."""
    found = located(film)
    samples = read_samples(find_track(found.moov, handler), len(film))
    chunk_of = [chunk for chunk in range(len(samples.chunks)) for _ in range(*samples.first[chunk : chunk + 2])]
    return [
        film[at : at + samples.ends[number + 1] - samples.ends[number]]
        for number, chunk in enumerate(chunk_of)
        for at in [samples.chunks[chunk] + samples.ends[number] - samples.ends[samples.first[chunk]]]
    ]


@st.composite
def films(draw: st.DrawFn, handler: bytes) -> tuple[Film, list[bytes]]:
    """Generate an MP4 that has one track of up to 40 samples in a random chunk layout. Returns the MP4 and its
    samples."""
    compact = draw(st.sampled_from([0, 0, 4, 8, 16]))
    sizes = draw(st.lists(st.integers(0, 15 if compact == 4 else 200), min_size=1, max_size=40))
    samples = [handler[:1] * size for size in sizes]
    borders = sorted(draw(st.sets(st.integers(1, len(samples) - 1), max_size=10))) if len(samples) > 1 else []
    chunked = [after - before for before, after in itertools.pairwise([0, *borders, len(samples)])]
    deltas = draw(st.lists(st.integers(0, 900), min_size=len(samples), max_size=len(samples)))
    film = Film(
        samples=samples,
        chunked=chunked,
        stts=[(1, delta) for delta in deltas],
        handler=handler,
        scale=draw(st.sampled_from([100, 300, 1000])),
        movie_scale=draw(st.sampled_from([90, 1000])),
        edits=draw(st.sampled_from([(), ((100, 0),), ((50, -1), (100, 30))])),
        descriptions=draw(st.lists(st.integers(1, 2), min_size=len(chunked), max_size=len(chunked))),
        wide=draw(st.booleans()),
        moov_last=draw(st.booleans()),
        compact_bits=compact,
        before=draw(st.binary(max_size=20)),
    )
    return film, samples


@settings(max_examples=150, deadline=None)
@given(films(VIDEO_HANDLER), films(AUDIO_HANDLER))
def test_mp4_files_with_any_chunk_layout_can_be_merged(
    video: tuple[Film, list[bytes]], audio: tuple[Film, list[bytes]]
) -> None:
    sources = bytes(video[0]), bytes(audio[0])
    layout = laid_out(*sources)
    film = read(layout, *sources)
    assert len(film) == layout.total
    assert samples_of(film, VIDEO_HANDLER) == video[1]
    assert samples_of(film, AUDIO_HANDLER) == audio[1]


def test_weaving_reads_each_source_only_forwards_whatever_the_chunk_layout_of_the_source_is(media: Path) -> None:
    for layout in ("only", "last", "chunks", "wide"):
        video, audio = ((media / f"{kind}-{layout}.mp4").read_bytes() for kind in ("video", "audio"))
        whole = laid_out(video, audio)
        pieces = list(whole.read(0, whole.total))
        for source in (VIDEO, AUDIO):
            places = [piece.offset for piece in pieces if piece.source == source]
            assert places == sorted(places)
            assert (
                len(places) >= 10
            )  # the layout has at least one run (contiguous bytes of one source) per second of a track


def test_the_samples_of_each_second_of_both_tracks_are_adjacent_in_a_merged_mp4(media: Path) -> None:
    """A player that reads the file from start to end always has both video and audio: the file contains at most one
    second of one track before it continues with the other track."""
    video, audio = ((media / f"{kind}-wide.mp4").read_bytes() for kind in ("video", "audio"))
    layout = laid_out(video, audio)
    sources = [piece.source for piece in layout.read(len(layout.header), layout.total)]
    assert len(sources) in (20, 21)
    assert all(one != other for one, other in itertools.pairwise(sources))


def test_the_chunk_offsets_of_a_merged_mp4_have_64_bits_if_the_file_is_larger_than_4_gib() -> None:
    """The video track has 5 GB, in samples of the same size. The test creates only the boxes before the samples, and
    not the samples themselves."""
    count, size = 5_000, 1_000_000
    head = Film(
        samples=(),
        chunked=(count,),
        stts=[(count, 40)],
        wide=True,
        replaced={
            b"stsz": sample_table(b"stsz", size, count),
            b"stco": sample_table(b"co64", 1, 0, 4096),
        },
    )
    moov = head.moov(0)
    video = Located(4096 + count * size, moov, fragmented=False)
    audio = bytes(Film(handler=AUDIO_HANDLER))
    layout = lay_out_plain(video, located(audio))
    assert layout.total == len(layout.header) + count * size + len(b"firstsecondthird")
    assert b"co64" in layout.header
    assert struct.pack(">I4sQ", 1, b"mdat", layout.total - len(layout.header) + 16) == layout.header[-16:]
    last = list(layout.read(layout.total - size, layout.total))[-1]
    assert (last.source, last.offset + last.length) == (VIDEO, video.total)


def test_the_movie_time_scale_of_a_merged_mp4_is_a_multiple_of_the_time_scales_in_both_source_mvhd_boxes() -> None:
    video = bytes(Film(movie_scale=600))
    audio = bytes(Film(handler=AUDIO_HANDLER, movie_scale=90, edits=[(90, -1), (7, 0)]))
    film = read(laid_out(video, audio), video, audio)
    track = find_track(located(film).moov, AUDIO_HANDLER)
    assert track.movie_scale == 1800
    assert [(edit.duration, edit.media_time) for edit in track.edits] == [(1800, -1), (140, 0)]
    assert (find_track(located(film).moov, VIDEO_HANDLER).number, track.number) == (1, 2)


def test_a_movie_time_scale_that_would_be_too_large_is_replaced_by_that_of_the_video_file() -> None:
    video, audio = bytes(Film(movie_scale=2**31 - 1)), bytes(Film(handler=AUDIO_HANDLER, movie_scale=2**31 - 3))
    assert find_track(located(read(laid_out(video, audio), video, audio)).moov, AUDIO_HANDLER).movie_scale == 2**31 - 1


def test_a_merged_mp4_keeps_all_sample_groups() -> None:
    groups = {
        kind: b"".join(write_full(kind, 1, 0, name + bytes(8)) for name in (b"roll", b"rap "))
        for kind in (b"sgpd", b"sbgp")
    }
    video, audio = bytes(Film()), bytes(Film(handler=AUDIO_HANDLER, replaced=groups))
    moov = located(read(laid_out(video, audio), video, audio)).moov
    assert all(box in moov for box in groups.values())


def test_quicktime_audio_is_merged_with_a_sample_description_of_mp4(media: Path) -> None:
    video, audio = (media / "video-only.mp4").read_bytes(), as_quicktime(media / "audio.m4a")
    assert find_track(located(audio).moov, AUDIO_HANDLER).is_quicktime
    film = read(laid_out(video, audio), video, audio)
    assert not find_track(located(film).moov, AUDIO_HANDLER).is_quicktime
    assert packets(film, "audio") == packets(audio, "audio")
    with av.open(io.BytesIO(film), "r") as woven, av.open(io.BytesIO(audio), "r") as source:
        assert [decoded(each) for each in woven.decode(audio=0)] == [decoded(each) for each in source.decode(audio=0)]


def as_quicktime(path: Path) -> bytes:
    """Return the audio of the file `path` in QuickTime's container, which libav writes with descriptions of version
    1."""
    written = io.BytesIO()
    with av.open(str(path)) as source, av.open(written, "w", format="mov") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return written.getvalue()


def decoded(frame: av.AudioFrame) -> tuple[int | None, int, bytes]:
    return frame.pts, frame.sample_rate, bytes(frame.planes[0])


COSTLY = {
    "many samples": Film(samples=[b"x"] * 20_000, chunked=[20] * 1000, stts=[(20_000, 40)]),
    "a chunk for each": Film(samples=[b"x"] * 20_000, chunked=[1] * 20_000, stts=[(20_000, 40)], wide=True),
    "times for each": Film(samples=[b"x"] * 20_000, chunked=[20_000], stts=[(1, 30), (1, 50)] * 10_000),
    "a second each": Film(samples=[b"x"] * 20_000, chunked=[20] * 1000, stts=[(20_000, 1000)]),
    "one size for all": Film(
        samples=[b"x"] * 20_000,
        chunked=[20_000],
        stts=[(20_000, 40)],
        replaced={b"stsz": sample_table(b"stsz", 1, 20_000)},
    ),
}


@pytest.mark.parametrize("film", COSTLY.values(), ids=COSTLY)
def test_making_the_layout_of_two_mp4_files_takes_no_more_memory_than_the_function_peak_bytes_returns(
    film: Film,
) -> None:
    video, audio = located(bytes(film)), located(bytes(Film(handler=AUDIO_HANDLER)))
    tracemalloc.start()
    try:
        lay_out_plain(video, audio)
        assert tracemalloc.get_traced_memory()[1] <= peak_bytes(video, audio) + SMALL_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("more", [write(b"free", bytes(4)), write(b"free"), bytes(7)], ids=["free", "empty", "rest"])
def test_bytes_after_the_sample_descriptions_are_ignored(more: bytes) -> None:
    entry = write(b"test", bytes(6), b"\0\1", bytes(20))
    stsd = write_full(b"stsd", 0, 0, struct.pack(">I", 1), entry, more)
    video, audio = bytes(Film()), bytes(Film(handler=AUDIO_HANDLER, replaced={b"stsd": stsd}))
    film = read(laid_out(video, audio), video, audio)
    assert [box.kind for box in find_track(located(film).moov, AUDIO_HANDLER).entries] == [b"test"]
