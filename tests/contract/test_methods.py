"""Tests of the contract that the methods `relay`, `embedded` and `subprocess` keep with clients of the real server: a
response has all bytes of the source, or ends in such a way that no client can mistake it for a complete response."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample import large_sha256
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, answers_under_way
from tests.wire import Answer
from tests.written import as_relayed, write_all

METHODS = ("relay", "embedded", "subprocess")
IN_PROCESS = ("relay", "embedded")


@dataclass(frozen=True)
class Sample:
    """A page of the sample site, and the file whose bytes a stream of this page must have."""

    page: str
    file: str
    content_type: str = "video/mp4"
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.page.strip("/"), *map(str, self.params.values())])


SAMPLES = [
    Sample("/page/prog", "prog.mp4"),
    Sample("/page/moov-last", "moov-last.mp4"),
    Sample("/page/webm", "vp9.webm", "video/webm"),
    Sample("/page/mp3", "audio.mp3", "audio/mpeg"),
    Sample("/page/m4a", "audio.m4a", "audio/mp4"),
    Sample("/page/jsonld", "prog.mp4"),
    Sample("/page/redirect", "prog.mp4"),
    Sample("/page/two", "vp9.webm", "video/webm", {"item": 2}),
    Sample("/media/video-only.webm", "video-only.webm", "video/webm"),
    Sample("/media/audio-only.webm", "audio-only.webm", "audio/webm"),
    Sample("/media/photo-1.jpg", "photo-1.jpg", "image/jpeg"),
    Sample("/tube/watch/headers", "prog.mp4"),
    Sample("/tube/watch/chunked", "prog.mp4"),
    Sample("/tube/watch/post", "prog.mp4"),
    Sample("/tube/watch/later", "prog.mp4"),
    Sample("/tube/watch/full", "video-only.mp4", "video/mp4", {"format": "video"}),
    Sample("/tube/watch/full", "audio-only.mp4", "audio/mp4", {"format": "audio"}),
    Sample("/tube/watch/full", "prog-180.mp4", "video/mp4", {"format": "w[ext=mp4][protocol=http]"}),
    Sample("/tube/audio/tone", "audio.mp3", "audio/mpeg", {"format": "mp3"}),
    Sample("/tube/playlist/list-12", "prog.mp4", "video/mp4", {"item": 12}),
    Sample("/tube/post/photos", "photo-2.jpg", "image/jpeg", {"item": 2}),
    Sample("/tube/post/with-music", "audio.m4a", "audio/mp4", {"item": 6}),
]
SECURE = [sample for sample in SAMPLES if str(sample) in ("page/prog", "page/mp3", "tube/watch/headers")]
SEGMENTED = ("hls-ts", "hls-fmp4", "hls-aes", "hls-audio", "dash", "dash-list")


def check(answer: Answer, expected: bytes, content_type: str, method: str) -> None:
    assert answer.status == 200, answer.body
    assert answer.complete
    assert hashlib.sha256(answer.body).hexdigest() == hashlib.sha256(expected).hexdigest()
    assert answer.headers["content-type"] == content_type
    assert answer.headers["x-serverpy-method"] == method
    assert answer.headers.get("content-length") in (None, str(len(expected)))
    assert answer.headers["accept-ranges"] == ("bytes" if method == "relay" and "etag" in answer.headers else "none")


@pytest.mark.parametrize("method", IN_PROCESS)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_stream_by_relay_or_embedded_has_the_bytes_of_the_source_file(
    server: Server, site: SampleSite, sample: Sample, method: str
) -> None:
    answer = server.get(sample.page, method=method, **sample.params)
    check(answer, site.path(sample.file).read_bytes(), sample.content_type, method)
    if method == "relay":
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_stream_by_subprocess_has_the_bytes_of_the_source_file(
    server: Server, site: SampleSite, sample: Sample
) -> None:
    answer = server.get(sample.page, method="subprocess", **sample.params)
    check(answer, site.path(sample.file).read_bytes(), sample.content_type, "subprocess")


@pytest.mark.parametrize("method", IN_PROCESS)
@pytest.mark.parametrize("sample", SECURE, ids=str)
def test_a_stream_from_an_https_source_has_the_bytes_of_the_source_file(
    server: Server, site: SampleSite, sample: Sample, method: str
) -> None:
    answer = server.get(f"{site.https}{sample.page}", method=method, **sample.params)
    check(answer, site.path(sample.file).read_bytes(), sample.content_type, method)


def test_a_stream_from_an_https_source_by_subprocess_has_the_bytes_of_the_source_file(
    server: Server, site: SampleSite
) -> None:
    answer = server.get(f"{site.https}/page/webm", method="subprocess")
    check(answer, site.path("vp9.webm").read_bytes(), "video/webm", "subprocess")


# HLS and DASH: each stream has the bytes that yt-dlp's command line writes; by relay, MP4s also state their duration


@pytest.fixture(scope="module")
def written(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the files that yt-dlp's command line writes for each format of the pages in SEGMENTED, as
    `<page>/<format>`."""
    return write_all(site, SEGMENTED, tmp_path_factory.mktemp("written"))


@pytest.mark.parametrize("name", SEGMENTED)
def test_every_hls_and_dash_format_is_streamed_with_the_bytes_that_yt_dlp_writes(
    server: Server, written: Path, name: str
) -> None:
    """`/info` lists the methods that support each format. The test requests each format by each of these methods."""
    formats = server.get(f"/page/{name}", path="/info").json()["formats"]
    assert {each["id"] for each in formats} == {path.name for path in (written / name).iterdir()}
    for each in formats:
        expected = (written / name / each["id"]).read_bytes()
        assert set(each["methods"]) == set(METHODS)
        for method in each["methods"]:
            answer = server.get(f"/page/{name}", method=method, format=each["id"])
            sent = as_relayed(expected, has_length=False) if method == "relay" else expected
            check(answer, sent, segmented_type(each["vcodec"], expected), method)


def segmented_type(vcodec: str | None, data: bytes) -> str:
    """Return the Content-Type expected for `data`: `video/mp2t` if the first byte is 0x47, and otherwise the type of a
    fragmented MP4."""
    if data.startswith(b"\x47"):
        return "video/mp2t"
    assert data[4:8] == b"ftyp"
    return "video/mp4" if vcodec else "audio/mp4"


# Clients that read slowly, pause or leave


@pytest.mark.parametrize("method", METHODS)
def test_a_slow_client_receives_every_byte(server: Server, method: str) -> None:
    with server.open("/media/large-8.mp4", method=method, receive_bytes=4096) as exchange:
        for length in range(0, 2 << 20, 10_000):
            exchange.read(length)
        answer = exchange.rest()
    assert answer.complete
    assert hashlib.sha256(answer.body).hexdigest() == large_sha256(8)


@pytest.mark.parametrize("method", METHODS)
def test_the_server_stops_reading_from_the_media_server_while_the_client_pauses(
    server: Server, site: SampleSite, method: str
) -> None:
    with server.open("/media/large-64.mp4", method=method, receive_bytes=4096) as exchange:
        exchange.read(100_000)
        wait_for(lambda: len({server.health()["budget"]["used"] for _ in range(30)}) == 1)
        assert answers_under_way(site) == 1
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_in_the_middle_of_a_body(
    server: Server, method: str
) -> None:
    with server.open("/media/large-64.mp4", method=method) as exchange:
        assert len(exchange.read(100_000)) >= 100_000
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_the_response_to_head_has_the_headers_of_the_response_to_get(server: Server, method: str) -> None:
    with server.open("/page/webm", method=method) as exchange:
        headers = dict(exchange.head().headers)
    answer = server.get("/page/webm", method=method, verb="HEAD")
    changing = ("date", "x-request-id", "server-timing", "transfer-encoding")
    assert (answer.status, answer.body) == (200, b"")
    assert without(answer.headers, changing) == without(headers, changing)
    assert {"content-type", "content-disposition", "accept-ranges", "x-serverpy-method"} <= answer.headers.keys()
    server.settled()


def without(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


# Media servers that fail


@pytest.mark.parametrize(
    "faults",
    [
        "cut=1000000",
        "rst=1000000",
        "cut=1000000,nolength",
        "cut=1000000,norange,times=1",
        "cut=1000000,times=3",
        "changes=told,times=0",
    ],
)
def test_relay_recovers_from_aborted_connections_and_from_media_that_change_with_a_new_etag(
    server: Server, site: SampleSite, faults: str
) -> None:
    answer = server.get(f"/page/fault/{faults},id=heals/prog.mp4", method="relay")
    check(answer, site.path("prog.mp4").read_bytes(), "video/mp4", "relay")


def test_relay_recovers_from_a_silent_media_server(hurried: Server, site: SampleSite) -> None:
    answer = hurried.get("/page/fault/stall=3000000/prog.mp4", method="relay")
    check(answer, site.path("prog.mp4").read_bytes(), "video/mp4", "relay")


def test_relay_extracts_the_page_again_if_a_media_url_expires_during_a_stream(server: Server, site: SampleSite) -> None:
    page = "/page/fault/expire=2000000/prog.mp4"
    check(server.get(page, method="relay"), site.path("prog.mp4").read_bytes(), "video/mp4", "relay")
    visits = [request for request in site.requests if request.path == page]
    assert len(visits) >= 3


@pytest.mark.parametrize("framing", ["norange", "norange,nolength"], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("method", METHODS)
def test_the_server_cuts_its_response_if_a_media_server_without_range_support_truncates_the_body(
    server: Server, site: SampleSite, framing: str, method: str
) -> None:
    answer = server.get(f"/page/fault/cut=700000,{framing}/prog.mp4", method=method)
    assert answer.status == 200
    assert not answer.complete
    assert site.path("prog.mp4").read_bytes().startswith(answer.body)
    assert 0 < len(answer.body) <= 700_000
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_the_response_is_complete_or_cut_if_a_media_server_with_range_support_truncates_each_body(
    server: Server, site: SampleSite, method: str
) -> None:
    answer = server.get("/page/fault/cut=2000000/prog.mp4", method=method)
    expected = site.path("prog.mp4").read_bytes()
    assert answer.status == 200
    assert answer.complete == (answer.body == expected)
    assert expected.startswith(answer.body)


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_never_joins_bytes_from_before_a_change_of_the_media_with_bytes_from_after_it(
    server: Server, site: SampleSite, method: str
) -> None:
    answer = server.get(f"/page/fault/cut=2000000,changes=silent,id={method}/prog.mp4", method=method)
    assert not answer.complete
    assert site.path("prog.mp4").read_bytes().startswith(answer.body)


@pytest.mark.parametrize("method", METHODS)
def test_the_response_is_incomplete_or_an_error_if_the_media_server_cuts_the_connection_within_a_segment(
    server: Server, site: SampleSite, method: str
) -> None:
    answer = server.get("/fault/cut=300000,norange/hls/ts/master.m3u8", method=method)
    expected = b"".join(site.path(f"hls/ts/high-{n}.ts").read_bytes() for n in range(5))
    assert not (answer.status == 200 and answer.complete)
    assert answer.status != 200 or expected.startswith(answer.body)


@pytest.mark.parametrize(
    ("page", "status", "code"),
    [
        ("/page/empty-media", 502, "upstream_failed"),
        ("/page/html-media", 415, "not_media"),
        ("/page/fault/status=404/prog.mp4", 502, "upstream_failed"),
        ("/page/fault/cut=0/prog.mp4", 502, "upstream_failed"),
        ("/page/dead", 502, "upstream_failed"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_failure_before_the_first_byte_is_answered_with_a_problem_document(
    server: Server, method: str, page: str, status: int, code: str
) -> None:
    answer = server.get(page, method=method)
    assert (answer.status, answer.code) == (status, code)
    server.settled()
