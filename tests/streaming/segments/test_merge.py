"""Tests of merging with a media server that truncates, omits or changes segments. The server cuts the merged stream
where a source is truncated, and refuses media that cannot be merged before the first byte."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import pytest

from serverpy.errors import DrmProtected, NotMedia, ServerPYError, TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.media.mp4.boxes import boxes
from serverpy.sample.cut import split_fragments
from tests.media.mp4.films import own_boxes, packets
from tests.media.mp4.shapes import IMPLICIT, NO_INDEX, in_fragments, without_data_offsets
from tests.streaming.segments.merging import SECONDS, merge, merge_into, put, segments
from tests.streaming.segments.shelf import Shelf

NUMBERS = range(1, 6)
"""The numbers of the segments that both tracks have. The audio track has one additional segment, which is short."""


@pytest.fixture
def shelf(media: Path) -> Iterator[Shelf]:
    """Run a media server with a video track and an audio track. Its responses have no Content-Length."""
    with Shelf() as shelf:
        for name, track in (("v", "high"), ("a", "en")):
            put(shelf, name, segments(media, track), framed=False)
        yield shelf


@pytest.fixture(scope="module")
def whole(media: Path) -> bytes:
    with Shelf() as shelf:
        for name, track in (("v", "high"), ("a", "en")):
            put(shelf, name, segments(media, track))
        return merge(shelf)


def is_cut(shelf: Shelf, whole: bytes) -> bool:
    """Merge the two tracks of `shelf`, which must raise UpstreamFailed. Returns whether the bytes sent before the error
    are the beginning of `whole`."""
    given = bytearray()
    with pytest.raises(UpstreamFailed):
        merge_into(given, shelf)
    assert len(given) < len(whole)
    return whole.startswith(given)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("track", ["v", "a"])
@pytest.mark.parametrize("kept", ["the moof", "a part of the moof", "a part of the data", "a part of a header"])
def test_a_truncated_segment_cuts_the_merged_stream_after_a_correct_beginning(
    shelf: Shelf, whole: bytes, track: str, number: int, kept: str
) -> None:
    path = f"/{track}-{number}"
    segment = shelf.data(path)
    moof = next(box for box in own_boxes(segment) if box.kind == b"moof")
    lengths = {"the moof": moof.end, "a part of the moof": moof.end - 9, "a part of a header": moof.end + 5}
    shelf.files[path] = segment[: lengths.get(kept, len(segment) - 1)]
    assert is_cut(shelf, whole)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("track", ["v", "a"])
def test_a_missing_segment_ends_the_merge_with_upstream_failed_after_a_correct_beginning(
    media: Path, whole: bytes, track: str, number: int
) -> None:
    with Shelf() as shelf:
        for name, source in (("v", "high"), ("a", "en")):
            put(shelf, name, segments(media, source))
        del shelf.files[f"/{track}-{number}"]
        if number == 1:
            with pytest.raises(UpstreamFailed):
                merge(shelf)
        else:
            assert is_cut(shelf, whole)


@pytest.mark.parametrize("track", ["v", "a"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_that_is_truncated_between_two_fragments_cuts_the_merged_stream(
    media: Path, track: str, number: int
) -> None:
    """A segment that is truncated between two fragments is well-formed. Only two facts show that a fragment is missing:
    the longer duration that the playlist states, and a gap in the timestamps."""
    with Shelf() as shelf:
        for name, source in (("v", "high"), ("a", "en")):
            head, *parts = segments(media, source)
            pairs = [parts[0] + parts[1], parts[2] + parts[3]]
            put(shelf, name, [head, *pairs], [2 * 2.0] * 2, framed=False)
        entire = merge(shelf)
        file = shelf.data(f"/{track}-{number}")
        second = [box for box in own_boxes(file) if box.kind == b"moof"][1]
        shelf.files[f"/{track}-{number}"] = file[: second.start]
        assert is_cut(shelf, entire)


def test_a_merge_resumes_segments_whose_connections_are_aborted(media: Path, whole: bytes) -> None:
    with Shelf() as shelf:
        for name, source in (("v", "high"), ("a", "en")):
            put(shelf, name, segments(media, source))
        shelf.cuts |= {"/v-2": 100_000, "/a-3": 10_000, "/v-4": 500}
        assert merge(shelf) == whole


def test_a_merge_requests_each_segment_once_over_one_connection_per_track(media: Path) -> None:
    with Shelf() as shelf:
        for name, source in (("v", "high"), ("a", "en")):
            put(shelf, name, segments(media, source))
        merge(shelf)
        assert len(set(shelf.targets())) == len(shelf.targets())
        assert shelf.connections == 2


@dataclass(frozen=True)
class Change:
    """A replacement of the bytes `old` in a file by the bytes `new`, and the error that the merge then raises."""

    old: bytes
    new: bytes
    error: type[ServerPYError]


CHANGES = {
    "the samples are encrypted": Change(b"avc1\0\0\0\0", b"encv\0\0\0\0", DrmProtected),
    "the track has another type": Change(b"vide", b"text", UnsupportedConversion),
    "the section has no mvex": Change(b"mvex", b"free", UnsupportedConversion),
    "the section has no moov": Change(b"moov", b"free", NotMedia),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_initialization_section_that_cannot_be_merged_raises_the_expected_error(
    shelf: Shelf, change: Change
) -> None:
    head = shelf.data("/v-0")
    shelf.files["/v-0"] = head.replace(change.old, change.new)
    with pytest.raises(change.error):
        merge(shelf)


FRAGMENT_CHANGES = {
    "a fragment has no tfhd": Change(b"tfhd", b"free", NotMedia),
    "a fragment has no mdat": Change(b"mdat", b"free", TooLarge),
}


@pytest.mark.parametrize("change", FRAGMENT_CHANGES.values(), ids=FRAGMENT_CHANGES.keys())
def test_a_damaged_fragment_cuts_the_merged_stream_after_a_correct_beginning(
    shelf: Shelf, whole: bytes, change: Change
) -> None:
    segment = shelf.data("/v-2")
    shelf.files["/v-2"] = segment.replace(change.old, change.new, 1)
    given = bytearray()
    with pytest.raises(change.error):
        merge_into(given, shelf)
    assert whole.startswith(given)


def test_a_later_initialization_section_with_a_different_sample_description_cuts_the_merged_stream(
    shelf: Shelf, media: Path, whole: bytes
) -> None:
    playlist = shelf.data("/v.m3u8")
    shelf.files["/low-0"] = segments(media, "low")[0]
    shelf.files["/v.m3u8"] = playlist.replace(
        b"#EXTINF:2.0,\nv-3", b'#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="low-0"\n#EXTINF:2.0,\nv-3'
    )
    assert is_cut(shelf, whole)


def test_a_merged_file_does_not_contain_the_boxes_between_the_fragments_of_its_sources(
    shelf: Shelf, whole: bytes
) -> None:
    for number in NUMBERS:
        segment = shelf.data(f"/v-{number}")
        extra = b"".join(struct.pack(">I4s", 20, kind) + bytes(12) for kind in (b"emsg", b"prft", b"uuid"))
        shelf.files[f"/v-{number}"] = extra + segment + struct.pack(">I4s", 8, b"mfra")
    assert merge(shelf) == whole
    assert {box.kind for box in own_boxes(whole)} == {b"ftyp", b"moov", b"moof", b"mdat"}


def test_a_box_between_a_moof_and_its_mdat_becomes_a_free_box_in_the_merged_file(
    shelf: Shelf, media: Path, whole: bytes
) -> None:
    """The data offsets in a moof count from the moof, so the mdat must keep its distance from the moof."""
    for number in NUMBERS:
        segment = shelf.data(f"/a-{number}")
        shelf.files[f"/a-{number}"] = with_box_before_data(segment)
    found = merge(shelf)
    assert packets(found, "audio") == packets(b"".join(segments(media, "en")), "audio")
    assert sum(box.kind == b"free" for box in own_boxes(found)) == len(NUMBERS)


def with_box_before_data(segment: bytes) -> bytes:
    """Return the segment with a box of 24 bytes before its mdat, and with 24 added to the data offsets in its truns."""
    inside = own_boxes(segment)
    moof = next(box for box in inside if box.kind == b"moof")
    out = bytearray(segment)
    data = memoryview(segment)
    traf = next(box for box in boxes(data, moof.body, moof.end) if box.kind == b"traf")
    for run in boxes(data, traf.body, traf.end):
        if run.kind == b"trun":
            (offset,) = struct.unpack_from(">i", segment, run.body + 8)
            struct.pack_into(">i", out, run.body + 8, offset + 24)
    return bytes(out[: moof.end]) + struct.pack(">I4s", 24, b"sidx") + bytes(16) + bytes(out[moof.end :])


def test_the_timestamps_of_a_merged_file_begin_at_zero_and_keep_the_offset_between_its_tracks(
    shelf: Shelf, media: Path
) -> None:
    for track, scale in (("v", 12_800), ("a", 48_000)):
        for number in range(1, 7):
            if isinstance(segment := shelf.files.get(f"/{track}-{number}"), bytes):
                late = 1000 if track == "v" else 1001
                shelf.files[f"/{track}-{number}"] = later(segment, late * scale)
    found = merge(shelf)
    for kind, source, moved in (("video", "high", 0), ("audio", "en", 48_000)):
        given = packets(b"".join(segments(media, source)), kind)
        assert [each.dts for each in packets(found, kind)] == [(each.dts or 0) + moved for each in given]


def later(segment: bytes, ticks: int) -> bytes:
    at = segment.index(b"tfdt") + 4
    layout = ">Q" if segment[at] else ">I"
    (time,) = struct.unpack_from(layout, segment, at + 4)
    return segment[: at + 4] + struct.pack(layout, time + ticks) + segment[at + 4 + struct.calcsize(layout) :]


def test_no_track_of_a_merged_file_contains_the_audio_in_the_segments_of_the_video_track(
    shelf: Shelf, media: Path
) -> None:
    """The merged file contains the bytes of the audio in the video segments, but none of its tracks refers to them."""
    folder = media / "hls" / "fmp4"
    muxed = [(folder / name).read_bytes() for name in ("high-init.mp4", *(f"high-{n}.m4s" for n in range(5)))]
    put(shelf, "v", muxed)
    put(shelf, "a", segments(media, "de"))
    found = merge(shelf)
    assert packets(found, "video") == packets(b"".join(muxed), "video")
    assert packets(found, "audio") == packets(b"".join(segments(media, "de")), "audio")


def test_a_later_initialization_section_that_differs_only_in_bit_rates_does_not_cut_the_merged_stream(
    shelf: Shelf, whole: bytes
) -> None:
    playlist, head = shelf.data("/a.m3u8"), shelf.data("/a-0")
    at = head.index(b"\x40\x15") + 2
    shelf.files["/b-0"] = head[:at] + bytes(11) + head[at + 11 :]
    assert shelf.files["/b-0"] != head
    shelf.files["/a.m3u8"] = playlist.replace(b"#EXTINF:2.0,\na-3", b'#EXT-X-MAP:URI="b-0"\n#EXTINF:2.0,\na-3')
    assert merge(shelf) == whole


@pytest.mark.parametrize(("name", "source"), [("v", "high"), ("a", "en")])
@pytest.mark.parametrize("tag", ["", "#EXT-X-DISCONTINUITY\n"])
def test_the_track_may_have_another_number_from_a_later_initialization_section_on(
    shelf: Shelf, media: Path, whole: bytes, name: str, source: str, tag: str
) -> None:
    playlist = shelf.data(f"/{name}.m3u8")
    head, *parts = (with_track_number(part, 7) for part in segments(media, source))
    line = f"#EXTINF:2.0,\n{name}-3"
    shelf.files[f"/{name}.m3u8"] = playlist.replace(
        line.encode(), f'{tag}#EXT-X-MAP:URI="{name}-other"\n{line}'.encode()
    )
    shelf.files |= {f"/{name}-{number}": part for number, part in enumerate(parts, 1) if number >= 3}
    shelf.files[f"/{name}-other"] = head
    found = merge(shelf)  # a track waits for the other one where its times may begin anew, so the order may differ
    for kind in ("video", "audio"):
        assert packets(found, kind) == packets(whole, kind)


@pytest.mark.parametrize(("name", "source"), [("v", "high"), ("a", "en")])
@pytest.mark.parametrize("number", [2, 5])
def test_a_segment_of_a_track_that_the_initialization_section_lacks_cuts_the_merged_stream(
    shelf: Shelf, media: Path, whole: bytes, name: str, source: str, number: int
) -> None:
    shelf.files[f"/{name}-{number}"] = with_track_number(segments(media, source)[number], 7)
    given = bytearray()
    with pytest.raises(NotMedia):
        merge_into(given, shelf)
    assert whole.startswith(given)


@pytest.mark.parametrize(("name", "source"), [("v", "high"), ("a", "en")])
def test_fragments_of_unknown_tracks_beside_those_of_the_track_are_ignored(
    shelf: Shelf, media: Path, whole: bytes, name: str, source: str
) -> None:
    for number in (2, 5):
        own = segments(media, source)[number]
        shelf.files[f"/{name}-{number}"] = with_track_number(own, 7) + own + with_track_number(own, 8)
    assert merge(shelf) == whole


def with_track_number(part: bytes, number: int) -> bytes:
    """Return an initialization section or a segment of one track with another number of the track."""
    out, offsets = bytearray(part), {b"tkhd": 12, b"trex": 4, b"tfhd": 4}
    for kind, offset in offsets.items():
        if (at := part.find(kind)) >= 0:
            struct.pack_into(">I", out, at + 4 + (20 if kind == b"tkhd" and part[at + 4] else offset), number)
    return bytes(out)


@pytest.mark.parametrize("change", [bytes, without_data_offsets], ids=["data offset 0", "no data offset"])
@pytest.mark.parametrize(("name", "kind"), [("v", "video"), ("a", "audio")])
def test_muxed_segments_whose_data_offsets_depend_on_the_other_track_are_merged(
    shelf: Shelf, media: Path, name: str, kind: str, change: Callable[[bytes], bytes]
) -> None:
    """The data of the second track of a fragment begins where that of the first ends (ISO/IEC 14496-12 §8.8.7)."""
    muxed = change(in_fragments(media / "prog.mp4", "video audio", 2, IMPLICIT + NO_INDEX))
    put(shelf, name, split_fragments(muxed))
    assert packets(merge(shelf), kind) == packets(muxed, kind)


@pytest.mark.parametrize(("name", "kind"), [("v", "video"), ("a", "audio")])
def test_fragments_whose_offsets_count_from_the_beginning_of_the_initialization_section_are_merged(
    shelf: Shelf, media: Path, name: str, kind: str
) -> None:
    """The initialization section states no duration, and would become longer if the server inserted one."""
    film = in_fragments(media / "prog.mp4", kind, 2, "+empty_moov" + NO_INDEX)
    put(shelf, name, split_fragments(film))
    assert packets(merge(shelf), kind) == packets(film, kind)


@pytest.mark.parametrize("name", ["v", "a"])
def test_a_missing_segment_of_known_length_does_not_shift_the_later_segments_against_the_other_track(
    shelf: Shelf, media: Path, name: str
) -> None:
    sources = {"v": segments(media, "high"), "a": segments(media, "en")}
    for each, parts in sources.items():
        put_ranges(shelf, each, parts, missing=(2, 3) if each == name else ())
    with av.open(io.BytesIO(merge(shelf)), "r") as film:
        found = sorted((packet.pos, float(packet.dts * packet.time_base)) for packet in film.demux() if packet.dts)
    times = [time for _, time in found]
    assert len(times) > 400
    assert max(before - after for before, after in pairwise(times)) <= SECONDS + 0.1


def put_ranges(shelf: Shelf, name: str, parts: list[bytes], missing: tuple[int, ...]) -> None:
    """Serve a playlist whose initialization section and segments are byte ranges of one file. `missing` are the numbers
    of the segments that it marks with EXT-X-GAP."""
    lines, at = ["#EXTM3U", f'#EXT-X-MAP:URI="{name}.mp4",BYTERANGE="{len(parts[0])}@0"'], len(parts[0])
    for number, part in enumerate(parts[1:], 1):
        lines += ["#EXT-X-GAP"] if number in missing else []
        lines += [
            f"#EXTINF:{SECONDS if len(part) > 1000 else 0.02},",
            f"#EXT-X-BYTERANGE:{len(part)}@{at}",
            f"{name}.mp4",
        ]
        at += len(part)
    shelf.files[f"/{name}.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    shelf.files[f"/{name}.mp4"] = b"".join(parts)


@pytest.mark.parametrize("puts", [put, lambda shelf, name, parts: put_ranges(shelf, name, parts, missing=())])
def test_the_duration_of_a_merged_file_includes_the_time_before_a_track_that_begins_late(
    shelf: Shelf, media: Path, puts: Callable[[Shelf, str, list[bytes]], None]
) -> None:
    """The video has 6 s from 4 s on, and the audio 4 s from the beginning."""
    video, audio = segments(media, "high"), segments(media, "en")
    puts(shelf, "v", video[:1] + video[3:])
    puts(shelf, "a", audio[:3])
    found = merge(shelf)
    movie = memoryview(found)[found.index(b"mvhd") + 4 :]
    scale, duration = struct.unpack_from(">IQ" if movie[0] else ">II", movie, 20 if movie[0] else 12)
    assert duration / scale == pytest.approx(10.0, abs=0.05)
