"""Tests that responses with the whole file, with a range of the file, and to HEAD have the same media type and file
name. Apple's players require this, because they request two bytes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.sample.catalogue import PAIRS, RENDITIONS
from serverpy.sample.make import CAPTIONS, PHOTOS
from serverpy.sample.site import SampleSite
from tests.server import Server

SAMPLES = {
    "/media/prog.mp4": "video/mp4",
    "/media/audio.m4a": "audio/mp4",
    "/media/audio.mp3": "audio/mpeg",
    "/media/vp9.webm": "video/webm",
    "/media/audio-only.webm": "audio/webm",
    "/media/photo-1.jpg": "image/jpeg",
    "/media/subs.en.vtt": "text/vtt",
    "/page/hls-byterange": "video/mp2t",
    "/page/hls-byterange-fmp4": "video/mp4",
    "/tube/watch/pair": "video/mp4",
}
SAME = ("content-type", "content-disposition", "etag", "last-modified", "accept-ranges", "x-serverpy-method")


@pytest.mark.parametrize("page", SAMPLES)
def test_responses_to_range_requests_and_head_have_the_headers_of_the_whole_file(server: Server, page: str) -> None:
    """A player first requests two bytes, and then the rest of the file. The response to HEAD also has
    Content-Length."""
    first = server.get(page, headers={"Range": "bytes=0-1"})
    rest = server.get(page, headers={"Range": "bytes=0-"})
    middle = server.get(page, headers={"Range": "bytes=100-149"})
    head, whole = server.get(page, verb="HEAD"), server.get(page)
    assert (first.status, rest.status, middle.status, head.status, whole.status) == (206, 206, 206, 200, 200)
    assert (first.body, rest.body, middle.body, head.body) == (whole.body[:2], whole.body, whole.body[100:150], b"")
    assert whole.headers["content-type"] == SAMPLES[page]
    for name in SAME:
        assert {answer.headers.get(name) for answer in (first, rest, middle, head)} == {whole.headers.get(name)}, name
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
    assert first.headers["content-range"] == f"bytes 0-1/{len(whole.body)}"


def test_for_a_head_request_relay_requests_the_first_512_bytes_from_the_media_server(
    server: Server, site: SampleSite
) -> None:
    page = "/media/prog-180.mp4"
    server.get(page, path="/info")
    before = len(site.requests)
    assert server.get(page, verb="HEAD", method="relay").status == 200
    (asked,) = list(site.requests)[before:]
    assert asked.headers["range"] == "bytes=0-511"


@pytest.mark.parametrize("method", ["embedded", "subprocess"])
def test_the_response_to_head_has_the_media_type_of_the_whole_file_with_the_methods_embedded_and_subprocess(
    server: Server, method: str
) -> None:
    for page in ("/media/audio.mp3", "/media/vp9.webm"):
        answer = server.get(page, verb="HEAD", method=method)
        assert (answer.status, answer.headers["content-type"]) == (200, SAMPLES[page])


FILES = sorted(
    {each.file for each in RENDITIONS.values() if each.protocol == "http" and not each.file.startswith("hostile/")}
    | {"moov-last.mp4", "clip.mp4", "german.m4a"}
    | {f"photo-{number}.jpg" for number in range(1, PHOTOS + 1)}
    | {f"subs.{language}.vtt" for language in CAPTIONS}
)
"""The non-empty files of the sample site, without segments."""
SEGMENTS = ["hls/ts/low-0.ts", "hls/audio/sound-0.ts", "hls/fmp4/low-init.mp4", "dash/video-180.mp4"]
WOVEN = [f"/tube/watch/{pair}" for pair in PAIRS if pair not in ("pair-webm", "pair-muxed", "long-muxed")]
SEEKABLE_PAGES = ["/page/hls-byterange", "/page/hls-byterange-fmp4", "/page/dash-on-demand", *WOVEN]
TYPES = {
    "mp4": ("video/mp4", "mp4"),
    "m4a": ("audio/mp4", "m4a"),
    "mp3": ("audio/mpeg", "mp3"),
    "webm": ("video/webm", "webm"),
    "jpg": ("image/jpeg", "jpg"),
    "vtt": ("text/vtt", "vtt"),
    "ts": ("video/mp2t", "ts"),
}
OF_AUDIO = {"mp4": ("audio/mp4", "m4a"), "webm": ("audio/webm", "weba")}
"""Content-Type and extension of the files that contain only audio; their names begin with "audio"."""


def type_of(page: str) -> tuple[str, str]:
    """Return the Content-Type and the extension that the media of a page must have."""
    name = page.rpartition("/")[2]
    ext = name.rpartition(".")[2] if "." in name else "ts" if name == "hls-byterange" else "mp4"
    return (OF_AUDIO if name.startswith("audio") else TYPES).get(ext, TYPES[ext])


@pytest.mark.parametrize("page", [*(f"/media/{file}" for file in FILES), *map("/{}".format, SEGMENTS), *SEEKABLE_PAGES])
def test_every_sample_can_be_opened_as_apple_players_open_it(server: Server, page: str) -> None:
    """Apple's players request two bytes, then the whole file. Each response has the Content-Type of the whole file."""
    first = server.get(page, headers={"Range": "bytes=0-1"})
    total = int(first.headers["content-range"].rpartition("/")[2])
    rest = server.get(page, headers={"Range": "bytes=0-"})
    with server.open(page) as exchange:
        whole_status, whole_headers, beginning = exchange.status, exchange.headers, exchange.read(2)[:2]
    assert (first.status, rest.status, whole_status) == (206, 206, 200)
    assert first.headers["content-range"] == f"bytes 0-1/{total}"
    assert rest.headers["content-range"] == f"bytes 0-{total - 1}/{total}"
    assert first.body == rest.body[:2] == beginning
    assert (len(rest.body), rest.complete, whole_headers["content-length"]) == (total, True, str(total))
    content_type, ext = type_of(page)
    for headers in (first.headers, rest.headers, whole_headers):
        assert headers["content-type"] == content_type
        assert headers["content-disposition"].endswith(f".{ext}")
        assert headers["accept-ranges"] == "bytes"
    if page.startswith("/media/"):
        assert rest.body == server.site.path(page.removeprefix("/media/")).read_bytes()


def test_the_constant_named_files_lists_every_non_empty_file_of_the_sample_site(media: Path) -> None:
    assert sorted(path.name for path in media.iterdir() if path.is_file() and path.stat().st_size) == FILES
