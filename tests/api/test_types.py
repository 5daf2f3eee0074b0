"""The whole file, its ranges and HEAD have the same type and name, as Apple's players require: they request two bytes
first."""

from __future__ import annotations

import pytest

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
def test_ranges_and_head_have_the_headers_of_the_whole_file(server: Server, page: str) -> None:
    """A player sends the first two requests in this order. The response to HEAD also states the length."""
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


def test_head_requests_512_bytes_upstream(server: Server, site: SampleSite) -> None:
    page = "/media/prog-180.mp4"
    server.get(page, path="/info")
    before = len(site.requests)
    assert server.get(page, verb="HEAD", method="relay").status == 200
    (asked,) = list(site.requests)[before:]
    assert asked.headers["range"] == "bytes=0-511"


@pytest.mark.parametrize("method", ["embedded", "subprocess"])
def test_head_by_embedded_and_subprocess_has_the_type_of_the_whole_file(server: Server, method: str) -> None:
    for page in ("/media/audio.mp3", "/media/vp9.webm"):
        answer = server.get(page, verb="HEAD", method=method)
        assert (answer.status, answer.headers["content-type"]) == (200, SAMPLES[page])
