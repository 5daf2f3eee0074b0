"""Tests that unmodified yt-dlp extracts the pages of the sample site. Each test states the purpose of one page."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample import SampleSite

from .conftest import YtDlp

DIRECT = {
    "prog": "prog.mp4",
    "moov-last": "moov-last.mp4",
    "webm": "vp9.webm",
    "mp3": "audio.mp3",
    "m4a": "audio.m4a",
    "jsonld": "prog.mp4",
    "unicode": "prog.mp4",
    "heavy": "prog.mp4",
    "redirect": "prog.mp4",
    "slow?seconds=0.1": "prog.mp4",
    "html-media": "not-media.mp4",
    "empty-media": "empty.mp4",
}


def formats(info: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(entry.get(field) for field in fields) for entry in info["formats"]]


@pytest.mark.parametrize("page", DIRECT)
def test_the_extraction_of_a_page_with_one_file_returns_the_url_of_that_file(
    site: SampleSite, ytdlp: YtDlp, page: str
) -> None:
    info = ytdlp.info(f"{site.http}/page/{page}")
    assert formats(info, "url") == [(f"{site.http}/media/{DIRECT[page]}",)]


def test_yt_dlp_returns_a_title_in_several_scripts_unchanged(site: SampleSite, ytdlp: YtDlp) -> None:
    title = ytdlp.info(f"{site.http}/page/unicode")["title"]
    assert title.startswith('映画「サンプル」🎬 "quoted" / it\'s größer & <more>')


def test_yt_dlp_reads_the_title_and_duration_from_json_ld(site: SampleSite, ytdlp: YtDlp) -> None:
    info = ytdlp.info(f"{site.http}/page/jsonld")
    assert (info["title"], info["duration"]) == ("Described by JSON-LD", 10)


@pytest.mark.parametrize("kind", ["ts", "fmp4", "aes"])
def test_yt_dlp_extracts_two_variants_from_hls(site: SampleSite, ytdlp: YtDlp, kind: str) -> None:
    found = formats(ytdlp.info(f"{site.http}/page/hls-{kind}"), "protocol", "height", "vcodec", "acodec")
    assert found == [
        ("m3u8_native", 180, "avc1.42c014", "mp4a.40.2"),
        ("m3u8_native", 360, "avc1.42c01e", "mp4a.40.2"),
    ]


def test_yt_dlp_extracts_three_tracks_from_an_hls_playlist_with_separate_audio(site: SampleSite, ytdlp: YtDlp) -> None:
    found = formats(ytdlp.info(f"{site.http}/page/hls-audio"), "protocol", "height", "vcodec", "language")
    assert found == [
        ("m3u8_native", None, "none", "en"),
        ("m3u8_native", 180, "avc1.42c014", None),
        ("m3u8_native", 360, "avc1.42c01e", None),
    ]


@pytest.mark.parametrize("page", ["dash", "dash-list"])
def test_yt_dlp_extracts_dash_tracks_with_their_fragments(site: SampleSite, ytdlp: YtDlp, page: str) -> None:
    info = ytdlp.info(f"{site.http}/page/{page}")
    assert formats(info, "protocol", "height", "vcodec", "acodec") == [
        ("http_dash_segments", None, "none", "mp4a.40.2"),
        ("http_dash_segments", 180, "avc1.42c014", "none"),
        ("http_dash_segments", 360, "avc1.42c01e", "none"),
    ]
    assert [len(entry["fragments"]) for entry in info["formats"]] == [6, 6, 6]


def test_yt_dlp_extracts_two_playlist_entries_from_a_page_with_two_films(site: SampleSite, ytdlp: YtDlp) -> None:
    info = ytdlp.info(f"{site.http}/page/two")
    assert [entry["url"] for entry in info["entries"]] == [f"{site.http}/media/{n}" for n in ("prog.mp4", "vp9.webm")]


def test_a_page_without_media_raises_unsupported_error_in_yt_dlp(site: SampleSite, ytdlp: YtDlp) -> None:
    assert ytdlp.error(f"{site.http}/page/none")["kind"] == "UnsupportedError"


def test_yt_dlp_treats_an_empty_page_as_a_media_file(site: SampleSite, ytdlp: YtDlp) -> None:
    """yt-dlp treats a page that does not look like HTML as a direct link, regardless of its Content-Type."""
    url = f"{site.http}/page/empty"
    info = ytdlp.info(url)
    assert (info["direct"], info["url"], info["ext"]) == (True, url, "unknown_video")


def test_endless_redirects_raise_an_error_in_yt_dlp(site: SampleSite, ytdlp: YtDlp) -> None:
    assert "redirect" in ytdlp.error(f"{site.http}/page/loop")["error"].lower()


def test_a_page_whose_media_server_is_down_fails_only_at_the_download(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path
) -> None:
    url = f"{site.http}/page/dead"
    assert ytdlp.info(url)["url"] == f"http://127.0.0.1:{site.closed_port}/media/prog.mp4"
    params = {"outtmpl": str(tmp_path / "media"), "retries": 0}
    assert "refused" in ytdlp.error(url, download=True, params=params)["error"]


def test_each_extraction_of_an_expiring_page_returns_a_different_media_url(site: SampleSite, ytdlp: YtDlp) -> None:
    url = f"{site.http}/page/fault/expire=1000/prog.mp4"
    assert ytdlp.info(url)["url"] != ytdlp.info(url)["url"]


@pytest.mark.parametrize(
    ("page", "format", "parts"),
    [
        ("prog", "b", ["prog.mp4"]),
        ("hls-ts", "b", [f"hls/ts/high-{n}.ts" for n in range(5)]),
        ("hls-fmp4", "b", ["hls/fmp4/high-init.mp4", *(f"hls/fmp4/high-{n}.m4s" for n in range(5))]),
        ("hls-aes", "b", [f"hls/ts/high-{n}.ts" for n in range(5)]),
        ("hls-aes", "w", [f"hls/ts/low-{n}.ts" for n in range(5)]),
        ("dash", "bv", ["dash/video-360-init.mp4", *(f"dash/video-360-{n}.m4s" for n in range(1, 6))]),
        ("dash-list", "ba", ["dash/audio-init.mp4", *(f"dash/audio-{n}.m4s" for n in range(1, 6))]),
        ("fault/cut=1000000/prog.mp4", "b", ["prog.mp4"]),
    ],
)
def test_yt_dlp_downloads_the_bytes_of_the_sample_file(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, page: str, format: str, parts: list[str]
) -> None:
    expected = b"".join(site.path(part).read_bytes() for part in parts)
    got = ytdlp.get(f"{site.http}/page/{page}", format, tmp_path)
    assert hashlib.sha256(got).hexdigest() == hashlib.sha256(expected).hexdigest()


def tube(site: SampleSite, path: str) -> str:
    return f"{site.http}/tube/{path}"


def test_yt_dlp_extracts_formats_and_subtitles_and_details_of_a_sampletube_video(
    site: SampleSite, ytdlp: YtDlp
) -> None:
    info = ytdlp.info(tube(site, "watch/full"))
    assert (info["extractor"], info["title"], info["uploader"]) == (
        "SampleTube",
        "SampleTube film: full",
        "The Sample Channel",
    )
    assert (info["duration"], info["thumbnail"]) == (10, f"{site.http}/media/photo-1.jpg")
    assert {entry["format_id"] for entry in info["formats"]} >= {"180", "360", "video", "audio", "webm", "chunked"}
    assert sum(entry["protocol"] == "m3u8_native" for entry in info["formats"]) == 2
    assert all(entry["http_headers"]["X-Tube-Token"] for entry in info["formats"])
    assert set(info["subtitles"]) == {"en", "de"}
    assert set(info["automatic_captions"]) == {"en"}
    cookies = {entry["cookies"] for entry in info["formats"]}
    assert len(cookies) == 1
    assert "Path=/tube/media" in cookies.pop()


@pytest.mark.parametrize(
    ("path", "format", "file"),
    [
        ("watch/full", "180", "prog-180.mp4"),
        ("watch/full", "video", "video-only.mp4"),
        ("watch/full", "audio", "audio-only.mp4"),
        ("watch/full", "webm", "vp9.webm"),
        ("watch/headers", "b", "prog.mp4"),
        ("watch/chunked", "b", "prog.mp4"),
        ("watch/post", "b", "prog.mp4"),
        ("watch/later", "b", "prog.mp4"),
        ("watch/item-3", "b", "prog.mp4"),
        ("audio/tone", "mp3", "audio.mp3"),
        ("audio/tone", "m4a", "audio.m4a"),
    ],
)
def test_the_media_server_of_sampletube_accepts_requests_of_yt_dlp(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path, path: str, format: str, file: str
) -> None:
    assert ytdlp.get(tube(site, path), format, tmp_path) == site.path(file).read_bytes()


def test_sampletube_serves_hls_segments_to_clients_with_its_session(
    site: SampleSite, ytdlp: YtDlp, tmp_path: Path
) -> None:
    got = ytdlp.get(tube(site, "watch/full"), "[format_id^=hls][height=180]", tmp_path)
    assert got == b"".join(site.path(f"hls/ts/low-{n}.ts").read_bytes() for n in range(5))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("geo", "GeoRestrictedError", "not available from your location"),
        ("login", "ExtractorError", "registered users"),
        ("gone", "ExtractorError", "Video unavailable"),
        ("crash", "KeyError", "An extractor error has occurred"),
        ("drm", "ExtractorError", "DRM protected"),
        ("unheard-of", "HTTPError", "404"),
    ],
)
def test_the_yt_dlp_error_for_an_unavailable_video_contains_the_reason(
    site: SampleSite, ytdlp: YtDlp, name: str, kind: str, words: str
) -> None:
    answer = ytdlp.error(tube(site, f"watch/{name}"))
    assert answer["kind"] == kind
    assert words in answer["error"]


def test_the_extraction_of_a_slow_video_page_ends_with_the_timeout_of_yt_dlp(site: SampleSite, ytdlp: YtDlp) -> None:
    begin = time.monotonic()
    answer = ytdlp.error(tube(site, "watch/slow"), params={"socket_timeout": 0.5, "extractor_retries": 0})
    assert time.monotonic() - begin >= 0.5
    assert "timed out" in answer["error"]


def test_yt_dlp_states_an_available_at_time_two_seconds_ahead_for_media_that_becomes_available_later(
    site: SampleSite, ytdlp: YtDlp
) -> None:
    begun = time.time()
    (found,) = formats(ytdlp.info(tube(site, "watch/later")), "available_at")
    assert begun + 1 < found[0] <= time.time() + 3


def test_yt_dlp_reads_a_playlist_page_by_page(site: SampleSite, ytdlp: YtDlp) -> None:
    info = ytdlp.info(tube(site, "playlist/list-25"), process=False)
    assert (info["title"], info["playlist_count"]) == ("A playlist of 25", 25)
    assert [entry["url"] for entry in info["entries"]] == [tube(site, f"watch/item-{n}") for n in range(1, 26)]
    pages = [r.query["page"] for r in site.requests if r.path == "/tube/api/playlist/list-25"]
    assert pages == ["1", "2", "3"]


@pytest.mark.parametrize(("name", "entries"), [("photos", 5), ("with-music", 6)])
def test_a_post_with_photos_has_entries_without_video_and_audio(
    site: SampleSite, ytdlp: YtDlp, name: str, entries: int
) -> None:
    info = ytdlp.info(tube(site, f"post/{name}"), process=False)
    photos = [entry["formats"][0] for entry in info["entries"][:5]]
    assert len(info["entries"]) == entries
    assert all((photo["ext"], photo["vcodec"], photo["acodec"]) == ("jpg", "none", "none") for photo in photos)


def test_yt_dlp_extracts_a_broadcast_as_live_hls(site: SampleSite, ytdlp: YtDlp) -> None:
    info = ytdlp.info(tube(site, "live/now"))
    assert info["live_status"] == "is_live"
    assert formats(info, "protocol", "height", "is_live") == [("m3u8_native", 360, None)]
