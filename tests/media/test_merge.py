"""Tests of merging segmented video and audio in a real server: the merged file has the packets of both tracks at
matching times, and FFmpeg decodes it without a warning."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.media.measuring import formats
from tests.media.merging import PAGES, RESTARTING, WITH_LENGTH, sources
from tests.media.mp4.films import own_boxes, packets
from tests.media.samples import Sample
from tests.players.tools import said
from tests.server import Server
from tests.wire import Answer

FRAME_SECONDS = 0.04


def merged(server: Server, page: str, headers: dict[str, str] | None = None, **params: Any) -> Answer:
    answer = server.get(f"/page/{page}", headers=headers, **params)
    assert (answer.status, answer.complete) == (200, True), answer.body[:300]
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-serverpy-method"] == "relay"
    return answer


@pytest.mark.parametrize("page", PAGES)
def test_a_merged_file_has_the_packets_and_times_of_both_tracks(server: Server, media: Path, page: str) -> None:
    body = merged(server, page).body
    for kind, source in zip(("video", "audio"), sources(media, page), strict=True):
        assert packets(body, kind) == packets(source, kind)


@pytest.mark.parametrize("page", RESTARTING)
def test_the_timestamps_of_a_merged_file_keep_rising_where_those_of_both_source_tracks_restart(
    server: Server, media: Path, page: str
) -> None:
    body = merged(server, page).body
    starts = []
    for kind, source in zip(("video", "audio"), sources(media, page), strict=True):
        found, given = packets(body, kind), packets(source, kind)
        assert [(each.digest, each.is_keyframe) for each in found] == [
            (each.digest, each.is_keyframe) for each in given
        ]
        times = [each.dts for each in found if each.dts is not None]
        assert all(before < after for before, after in pairwise(times))
        scale = 12_800 if kind == "video" else 48_000
        steps = [after - before for before, after in pairwise(times)]
        longest = max(range(len(steps)), key=steps.__getitem__)
        assert steps[longest] / scale < FRAME_SECONDS + 0.022
        starts.append(found)
    assert all(starts)


@pytest.mark.parametrize("page", [*PAGES, *RESTARTING])
def test_ffmpeg_decodes_a_merged_file_without_a_warning(server: Server, page: str) -> None:
    url = f"{server.url}{server.target(f'/page/{page}')}"
    assert said("ffmpeg", "-v", "warning", "-i", url, "-map", "0", "-f", "null", "-") == ""


@pytest.mark.parametrize("page", [*PAGES, *RESTARTING])
def test_the_bytes_before_the_second_fragment_of_a_merged_file_state_the_durations_of_its_tracks(
    server: Server, media: Path, tmp_path: Path, page: str
) -> None:
    """If a stream has no Content-Length, a player cannot read the end of the file to find the durations."""
    body = merged(server, page).body
    moof = next(box for box in own_boxes(body) if box.kind == b"moof")
    second = next(box for box in own_boxes(body)[own_boxes(body).index(moof) + 1 :] if box.kind == b"moof")
    (tmp_path / "head.mp4").write_bytes(body[: second.start])
    shown = ("-show_entries", "stream=codec_type,duration", "-of", "json")
    streams = json.loads(said("ffprobe", "-v", "error", *shown, str(tmp_path / "head.mp4")))["streams"]
    for stream, source in zip(streams, sources(media, page), strict=True):
        assert float(stream["duration"]) == pytest.approx(length_of(source, stream["codec_type"]), abs=FRAME_SECONDS)


def length_of(source: bytes, kind: str) -> float:
    """Return the sum of the durations of the packets of the track `kind`, in seconds."""
    scale = {"video": 12_800, "audio": 48_000}[kind]
    return sum(each.duration or 0 for each in packets(source, kind)) / scale


@pytest.mark.parametrize("page", ["hls-apart", "hls-apart-long", "dash"])
def test_a_merged_file_keeps_the_difference_between_the_start_times_of_video_and_audio(
    server: Server, media: Path, tmp_path: Path, page: str
) -> None:
    for name, source in zip("va", sources(media, page), strict=True):
        (tmp_path / name).write_bytes(source)
    inputs = ("-copyts", "-i", str(tmp_path / "v"), "-i", str(tmp_path / "a"))
    said("ffmpeg", "-v", "error", *inputs, "-c", "copy", "-f", "mp4", str(tmp_path / "expected.mp4"))
    (tmp_path / "merged.mp4").write_bytes(merged(server, page).body)
    assert starts(tmp_path / "merged.mp4") == starts(tmp_path / "expected.mp4")


def starts(film: Path) -> list[str]:
    shown = ("-show_entries", "stream=codec_type,start_time", "-of", "csv=p=0")
    return said("ffprobe", "-v", "error", *shown, str(film)).split()


@pytest.mark.parametrize("page", sorted(set(PAGES) - set(WITH_LENGTH)))
def test_a_merged_file_of_unknown_length_is_sent_whole_even_if_the_client_requests_a_range(
    server: Server, page: str
) -> None:
    answer = merged(server, page, headers={"Range": "bytes=1000-1999"})
    assert answer.headers["accept-ranges"] == "none"
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("page", WITH_LENGTH)
def test_a_merged_file_has_a_length_and_supports_ranges_if_the_lengths_of_its_segments_are_known(
    server: Server, page: str
) -> None:
    whole = merged(server, page)
    total, etag = len(whole.body), whole.headers["etag"]
    assert whole.headers["content-length"] == str(total)
    assert whole.headers["accept-ranges"] == "bytes"
    for first, last in ((0, 99), (700, 700), (total // 3, total // 3 + 100_000), (total - 5000, total - 1)):
        part = server.get(f"/page/{page}", headers={"Range": f"bytes={first}-{last}"})
        assert (part.status, part.body) == (206, whole.body[first : last + 1])
        assert part.headers["content-range"] == f"bytes {first}-{last}/{total}"
        assert part.headers["etag"] == etag
    held = server.get(f"/page/{page}", headers={"Range": "bytes=5-9", "If-Range": etag})
    assert (held.status, held.body) == (206, whole.body[5:10])
    other = server.get(f"/page/{page}", headers={"Range": "bytes=5-9", "If-Range": '"other"'})
    assert (other.status, other.body) == (200, whole.body)
    head = server.get(f"/page/{page}", verb="HEAD")
    assert (head.status, head.headers["content-length"], head.headers["etag"]) == (200, str(total), etag)
    assert server.get(f"/page/{page}", headers={"If-None-Match": etag}).status == 304
    assert server.get(f"/page/{page}", headers={"Range": f"bytes={total}-"}).status == 416


def test_head_for_a_merged_file_of_unknown_length_has_the_headers_of_get(server: Server) -> None:
    head, get = server.get("/page/hls-apart", verb="HEAD"), merged(server, "hls-apart")
    names = ("content-type", "accept-ranges", "x-duration", "x-serverpy-method")
    assert [head.headers[name] for name in names] == [get.headers[name] for name in names]


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_merged_file_contains_the_audio_format_that_the_request_selects(
    server: Server, media: Path, language: str
) -> None:
    found = formats(server, Sample("hls-apart", "/page/hls-apart"))
    (audio,) = (each["id"] for each in found if each["language"] == language and not each["vcodec"])
    body = merged(server, "hls-apart", format=f"{found[-1]['id']}+{audio}").body
    assert packets(body, "audio") == packets(sources(media, "hls-apart", language)[1], "audio")


@pytest.mark.parametrize("selector", ["bv+ba", "ba+bv", "bv*+ba"])
def test_a_format_selector_for_video_and_audio_returns_the_merged_file(
    server: Server, media: Path, selector: str
) -> None:
    body = merged(server, "dash", format=selector).body
    assert packets(body, "video") == packets(sources(media, "dash")[0], "video")


@pytest.mark.parametrize("page", ["hls-audio", "hls-group"])
def test_a_page_whose_separate_tracks_are_not_mp4_segments_is_streamed_as_audio_only(server: Server, page: str) -> None:
    answer = server.get(f"/page/{page}")
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["content-type"] == "video/mp2t"
    with av.open(io.BytesIO(answer.body)) as container:
        assert [stream.type for stream in container.streams] == ["audio"]


def test_a_request_for_a_merge_of_segments_other_than_mp4_fails_with_an_error_that_names_streamable_formats(
    server: Server,
) -> None:
    page = "hls-audio"
    answer = server.get(f"/page/{page}", format="bv+ba")
    assert (answer.status, answer.code) == (422, "unsupported_conversion")
    named = answer.json()["detail"].partition("example ")[2].rstrip(".").split(" or ")
    for choice in named:
        assert server.get(f"/page/{page}", format=choice.removeprefix("format=")).status == 200
    assert len(named) == 2
