"""Tests of the separate video and audio files of the sample media. Each file has the layout that its name states, and
the expected samples."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from serverpy.sample import SampleSite
from serverpy.sample.boxes import boxes
from serverpy.sample.catalogue import LONG, PAIRS, RENDITIONS, TRAPS
from serverpy.sample.cut import h264_codec

from .conftest import YtDlp
from .raw import ask

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"}
LAYOUTS = ("only", "last", "chunks", "wide", "sidx", "based", "runs", "fragments")


def tree(film: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield every box of an MP4 with its content, in the order of the file."""
    for box in boxes(film, start, stop):
        yield box.kind, film[box.start : box.stop]
        if box.kind in CONTAINERS:
            yield from tree(film, box.start, box.stop)


def first(film: bytes, kind: bytes) -> bytes:
    return next(content for found, content in tree(film) if found == kind)


def numbers(content: bytes) -> tuple[int, ...]:
    """Return the 32-bit numbers after the version and flags of a full box."""
    return struct.unpack(f">{len(content) // 4 - 1}i", content[4:])


def samples(film: Path | io.BytesIO, kind: str = "") -> list[tuple[int | None, int | None, bool, str]]:
    with av.open(film, "r") as container:
        (stream,) = (s for s in container.streams if kind in ("", s.type))
        return [
            (packet.pts, packet.dts, packet.is_keyframe, hashlib.sha256(bytes(packet)).hexdigest())
            for packet in container.demux(stream)
            if packet.size
        ]


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_every_layout_have_the_same_samples(media: Path, kind: str, layout: str) -> None:
    expected = [sample[3] for sample in samples(media / "prog.mp4", kind)]
    assert [sample[3] for sample in samples(media / f"{kind}-{layout}.mp4")] == expected


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_files_of_the_layouts_last_and_chunks_have_their_moov_box_last(media: Path, kind: str) -> None:
    for layout in ("last", "chunks"):
        kinds = [box.kind for box in boxes((media / f"{kind}-{layout}.mp4").read_bytes())]
        assert kinds.index(b"mdat") < kinds.index(b"moov")


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_file_has_one_sample_per_chunk_or_all_samples_in_one_chunk_as_its_name_states(media: Path, kind: str) -> None:
    count = len(samples(media / f"{kind}-only.mp4"))
    split = (media / f"{kind}-chunks.mp4").read_bytes()
    assert numbers(first(split, b"stsc")) == (1, 1, 1, 1)
    assert numbers(first(split, b"stco"))[0] == count
    wide = (media / f"{kind}-wide.mp4").read_bytes()
    mdat = wide.index(b"mdat") + 12
    assert struct.unpack_from(">I", wide, mdat - 16) == (1,)
    moov = wide.index(b"moov", struct.unpack_from(">Q", wide, mdat - 8)[0])
    tables = dict(tree(wide[moov - 4 :]))
    assert numbers(tables[b"stsc"]) == (1, 1, count, 1)
    assert struct.unpack(">IQ", tables[b"co64"][4:]) == (1, mdat)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_fragmented_files_have_the_first_boxes_and_the_base_data_offset_flags_that_their_layout_states(
    media: Path, kind: str
) -> None:
    base_data_offset, default_base_is_moof = 0x1, 0x20000
    for layout, index, flag in (
        ("sidx", b"sidx", default_base_is_moof),
        ("based", b"sidx", base_data_offset),
        ("fragments", b"moof", default_base_is_moof),
    ):
        film = (media / f"{kind}-{layout}.mp4").read_bytes()
        assert [box.kind for box in boxes(film)][:3] == [b"ftyp", b"moov", index]
        flags = int.from_bytes(first(film, b"tfhd")[1:4], "big")
        assert flags & (base_data_offset | default_base_is_moof) == flag


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_fragments_with_two_trun_boxes_have_the_length_that_the_sidx_states(media: Path, kind: str) -> None:
    film = (media / f"{kind}-runs.mp4").read_bytes()
    places = [box.start - 8 for box in boxes(film) if box.kind == b"moof"]
    lengths = [stop - start for start, stop in pairwise([*places, len(film)])]
    entries = numbers(first(film, b"sidx")[28:])
    assert list(entries[::3]) == lengths
    kinds = [found for found, _ in tree(film)]
    assert kinds.count(b"trun") == 2 * kinds.count(b"moof")


def test_some_sample_mp4_files_have_reordered_frames_and_uneven_frame_durations(media: Path) -> None:
    for name in ("long", "uneven", "cut"):
        film = media / f"video-{name}.mp4"
        assert any(pts != dts for pts, dts, _, _ in samples(film))
        assert b"ctts" in dict(tree(film.read_bytes()))
    shown = sorted(pts for pts, _, _, _ in samples(media / "video-uneven.mp4") if pts is not None)
    assert len({later - sooner for sooner, later in pairwise(shown)}) >= 3


def edits(film: Path) -> list[tuple[int, int]]:
    """Return the segment duration and media time of each entry in a version 0 edit list (ISO/IEC 14496-12 §8.6.6)."""
    count, *entries = numbers(first(film.read_bytes(), b"elst"))
    assert len(entries) == count * 3
    return [(entries[n], entries[n + 1]) for n in range(0, len(entries), 3)]


def test_the_edit_list_of_a_track_whose_name_contains_cut_begins_between_key_frames(media: Path) -> None:
    for kind in ("video", "audio"):
        ((_, media_time),) = edits(media / f"{kind}-cut.mp4")
        assert media_time > 0
    hidden = [key for pts, _, key, _ in samples(media / "video-cut.mp4") if pts is not None and pts < 0]
    assert hidden[0]
    assert len(hidden) > 10
    assert not next(key for pts, _, key, _ in samples(media / "video-cut.mp4") if pts == 0)


def test_the_edit_list_of_a_late_audio_track_begins_with_an_empty_edit(media: Path) -> None:
    (duration, media_time), *_ = edits(media / "audio-late.mp4")
    assert media_time == -1
    _, _, timescale, *_ = numbers(first((media / "audio-late.mp4").read_bytes(), b"mvhd"))
    assert duration / timescale == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("name", ["video-long", "audio-long", "video-long-sidx", "audio-long-sidx", "long"])
def test_each_long_sample_mp4_lasts_a_minute(media: Path, name: str) -> None:
    with av.open(media / f"{name}.mp4") as film:
        assert film.duration is not None
        assert film.duration / 1_000_000 == pytest.approx(60, abs=0.2)


def test_the_codec_that_the_catalogue_states_for_each_h264_file_is_the_codec_in_that_file(media: Path) -> None:
    for key, rendition in RENDITIONS.items():
        if rendition.vcodec.startswith("avc1") and key not in TRAPS:
            assert (key, h264_codec(media / rendition.file)) == (key, rendition.vcodec)


@pytest.mark.parametrize("name", PAIRS)
def test_yt_dlp_extracts_the_tracks_of_each_sampletube_video_as_plain_files_with_their_sizes(
    site: SampleSite, ytdlp: YtDlp, name: str
) -> None:
    info = ytdlp.info(f"{site.http}/tube/watch/{name}")
    assert info["duration"] == (60 if name in LONG else 10)
    found: dict[str, dict[str, Any]] = {entry["format_id"]: entry for entry in info["formats"]}
    assert set(found) == set(PAIRS[name])
    for key, entry in found.items():
        assert entry["protocol"] == "http"
        assert entry["filesize"] == site.path(RENDITIONS[key].file).stat().st_size
        assert ("http_chunk_size" in entry.get("downloader_options", {})) == key.endswith("chunked")


@pytest.mark.parametrize(
    ("path", "format", "file"),
    [
        ("pair-sidx-chunked", "bv", "video-sidx.mp4"),
        ("pair-wide", "ba", "audio-wide.mp4"),
        ("fault/cut=1000000,id=pair/pair", "bv", "video-only.mp4"),
        ("fault/expire=10000000/long", "bv", "video-long.mp4"),
        ("fault/nolength/pair-webm", "ba", "audio-only.webm"),
    ],
)
def test_yt_dlp_downloads_all_bytes_of_a_track_from_an_address_with_faults(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, path: str, format: str, file: str
) -> None:
    got = ytdlp.get(f"{site.http}/tube/watch/{path}", format, tmp_path)
    assert got == site.path(file).read_bytes()


def test_each_extraction_of_a_video_whose_urls_expire_returns_a_different_media_url(
    site: SampleSite, ytdlp: YtDlp
) -> None:
    url = f"{site.http}/tube/watch/fault/expire=1000/pair"
    first_visit, second_visit = ({f["url"] for f in ytdlp.info(url)["formats"]} for _ in range(2))
    assert not first_visit & second_visit


def test_the_address_of_a_video_page_with_an_unknown_fault_is_answered_with_404(site: SampleSite) -> None:
    assert ask(f"{site.http}/tube/api/watch/fault/odd/pair").status == 404
