"""Tests of the response header field X-Duration, the duration of the whole media in seconds. The server sends this
field if the duration is known and the media is not live."""

from __future__ import annotations

from typing import Any

import pytest

from serverpy.api.middleware import EXPOSED_HEADERS
from serverpy.sample.encode import LONG_SECONDS, SECONDS
from serverpy.sample.site import SampleSite
from tests.server import Server

KNOWN: dict[str, tuple[str, dict[str, Any], float]] = {
    "a file whose page states the duration": ("/tube/watch/headers", {}, SECONDS),
    "woven files without fragments": ("/tube/watch/pair", {}, SECONDS),
    "woven fragmented files": ("/tube/watch/long-sidx", {}, LONG_SECONDS),
    "HLS in MPEG-TS": ("/page/hls-ts", {}, SECONDS),
    "HLS in MP4": ("/page/hls-fmp4", {}, SECONDS),
    "HLS by the URL of its playlist": ("/hls/ts/low.m3u8", {}, SECONDS),
    "DASH video": ("/page/dash", {"format": "bv"}, SECONDS),
    "DASH audio": ("/page/dash-periods", {"format": "ba"}, SECONDS),
    "embedded": ("/tube/watch/headers", {"method": "embedded"}, SECONDS),
    "subprocess": ("/tube/watch/headers", {"method": "subprocess"}, SECONDS),
    "an item": ("/tube/playlist/list-12", {"item": 12}, SECONDS),
}


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize("name", KNOWN)
def test_the_response_states_the_known_duration_of_the_media(server: Server, name: str, verb: str) -> None:
    page, params, seconds = KNOWN[name]
    answer = server.get(page, verb=verb, **params)
    assert answer.status == 200
    assert float(answer.headers["x-duration"]) == pytest.approx(seconds, abs=0.1)


def test_an_x_duration_of_whole_seconds_has_no_decimal_places(server: Server) -> None:
    assert server.get("/page/hls-ts", verb="HEAD").headers["x-duration"] == "10"


@pytest.mark.parametrize("page", ["/tube/watch/headers", "/page/hls-byterange", "/tube/watch/pair-sidx"])
def test_the_response_to_a_range_request_states_the_duration_of_the_whole_file(server: Server, page: str) -> None:
    answer = server.get(page, headers={"Range": "bytes=1000-1999"})
    assert (answer.status, len(answer.body)) == (206, 1000)
    assert float(answer.headers["x-duration"]) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("page", ["/media/prog.mp4", "/page/prog", "/media/photo-1.jpg", "/tube/post/photos"])
def test_the_response_has_no_x_duration_if_the_duration_is_unknown(server: Server, page: str) -> None:
    answer = server.get(page, verb="HEAD")
    assert answer.status == 200
    assert "x-duration" not in answer.headers


@pytest.mark.parametrize("start", [{}, {"start": 0}])
@pytest.mark.parametrize("page", ["page", "tube"])
def test_the_response_for_a_live_stream_has_no_x_duration(
    server: Server, site: SampleSite, page: str, start: dict[str, Any]
) -> None:
    spec = f"clock=step,id=duration-{page}-{len(start)}"
    site.broadcast(spec).step(3)
    with server.open(f"/{page}/live/{spec}", receive_bytes=4096, **start) as exchange:
        assert exchange.status == 200
        assert "x-duration" not in exchange.headers
    server.settled()


def test_cors_exposes_x_duration_to_scripts_of_other_origins() -> None:
    assert "X-Duration" in EXPOSED_HEADERS


@pytest.mark.parametrize("verb", ["get", "head"])
def test_the_openapi_document_lists_x_duration(server: Server, verb: str) -> None:
    answers = server.ask("/openapi.json").json()["paths"]["/stream"][verb]["responses"]
    assert "X-Duration" in answers["200"]["headers"]
