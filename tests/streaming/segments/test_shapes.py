"""Tests of the relay with every form of HLS and DASH that the sample site has. The relay sends the bytes that yt-dlp
writes, states the duration in MP4s, and ends hostile playlists with an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.sample.hls import parts_of
from serverpy.sample.hostile import PLAYLISTS
from serverpy.sample.site import SampleSite
from tests.server import Server
from tests.wire import Answer
from tests.written import as_relayed, write_all

SHAPES = (
    "hls-byterange", "hls-byterange-fmp4", "hls-keys", "hls-aes-fmp4", "hls-discontinuity", "hls-anvato", "hls-uplynk",
    "hls-group", "hls-group-muxed", "hls-addresses", "dash-on-demand", "dash-time", "dash-periods", "dash-bases",
)  # fmt: skip
FILES = ("dash-on-demand",)
"""Forms of HLS and DASH in which each format is a single file, which is sent unchanged."""
WITH_LENGTH = ("hls-byterange", "hls-byterange-fmp4", "dash-on-demand")
HARMLESS = {"bad-duration", "huge-sequence", "zero-segment"}
"""Hostile playlists that can be streamed. Two declare wrong durations or numbers, which the relay does not need.
Another has an empty segment, which adds no bytes."""
OTHER_HOSTILE = ("million", "endless", "long-line", "empty", "html", "binary")


@pytest.fixture(scope="module")
def written(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Download all formats of all pages in SHAPES by yt-dlp. Returns the folder, which contains each format as
    `<page>/<format>`."""
    return write_all(site, SHAPES, tmp_path_factory.mktemp("written"))


@pytest.mark.parametrize("name", SHAPES)
def test_relay_streams_every_hls_and_dash_format_with_the_bytes_that_yt_dlp_writes(
    server: Server, written: Path, name: str
) -> None:
    formats = server.get(f"/page/{name}", path="/info").json()["formats"]
    assert {each["id"] for each in formats} == {path.name for path in (written / name).iterdir()}
    for each in formats:
        assert "relay" in each["methods"]
        answer = server.get(f"/page/{name}", method="auto", format=each["id"])
        assert (answer.status, answer.complete) == (200, True)
        assert answer.headers["x-serverpy-method"] == "relay"
        expected = (written / name / each["id"]).read_bytes()
        assert answer.body == (expected if name in FILES else as_relayed(expected, has_length=name in WITH_LENGTH))
        assert ("content-length" in answer.headers) == (name in WITH_LENGTH)
        assert answer.headers["accept-ranges"] == ("bytes" if name in WITH_LENGTH else "none")


@pytest.mark.parametrize("name", WITH_LENGTH[:2])
def test_a_range_of_an_hls_stream_has_the_right_bytes_and_the_content_type_of_the_whole_stream(
    server: Server, site: SampleSite, name: str
) -> None:
    kind = name.removeprefix("hls-")
    whole = as_relayed(
        b"".join(site.path(f"hls/{part}").read_bytes() for part in parts_of(kind, "high")), has_length=True
    )
    first, last = len(whole) // 3, len(whole) - 1000
    answer = server.get(f"/page/{name}", headers={"Range": f"bytes={first}-{last}"})
    assert (answer.status, answer.body) == (206, whole[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-type"] == server.get(f"/page/{name}", verb="HEAD").headers["content-type"]


@pytest.mark.parametrize("method", ["relay", "embedded"])
@pytest.mark.parametrize("variant", ["high", "low"])
def test_a_gap_segment_in_a_playlist_is_skipped(server: Server, site: SampleSite, variant: str, method: str) -> None:
    formats = server.get("/page/hls-gap", path="/info").json()["formats"]
    chosen = formats[-1 if variant == "high" else 0]["id"]
    answer = server.get("/page/hls-gap", method=method, format=chosen)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == b"".join(site.path(f"hls/{part}").read_bytes() for part in parts_of("gap", variant))


def test_a_second_initialization_section_is_streamed_before_its_segments(server: Server, site: SampleSite) -> None:
    answer = server.get("/page/hls-discontinuity-fmp4", method="relay")
    parts = parts_of("discontinuity-fmp4", "high")
    assert (answer.status, answer.complete) == (200, True)
    whole = b"".join(site.path(f"hls/{part}").read_bytes() for part in parts)
    assert answer.body == as_relayed(whole, has_length=False)


@pytest.mark.parametrize("name", sorted({*PLAYLISTS, *OTHER_HOSTILE} - HARMLESS))
def test_a_hostile_playlist_is_answered_with_an_error_or_its_stream_is_cut(server: Server, name: str) -> None:
    """Some of these playlists make the extraction fail, and others make the stream fail."""
    answer = server.get(f"/page/hostile/{name}.m3u8", method="relay")
    assert has_failed(answer), (answer.status, answer.headers, len(answer.body))
    server.settled()


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_a_hostile_playlist_with_faults_that_players_ignore_is_streamed(server: Server, name: str) -> None:
    answer = server.get(f"/page/hostile/{name}.m3u8", method="relay")
    assert (answer.status, answer.complete) == (200, True)


def has_failed(answer: Answer) -> bool:
    return not answer.complete if answer.status == 200 else answer.code is not None
