"""Tests of `method=redirect` over HTTP: the server redirects the client to the URL of the media, or refuses the
request."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest

from serverpy.sample.site import SampleSite
from tests.server import Server


@pytest.mark.parametrize("page", ["/media/prog.mp4", "/page/prog"])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_client_is_redirected_to_the_url_of_media_that_it_can_fetch(
    server: Server, site: SampleSite, media: Path, page: str, verb: str
) -> None:
    answer = server.get(page, method="redirect", verb=verb)
    assert (answer.status, answer.body) == (302, b"")
    assert answer.headers["location"] == f"{site.http}/media/prog.mp4"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-serverpy-method"] == "redirect"
    assert answer.headers["content-length"] == "0"
    assert "accept-ranges" not in answer.headers
    with urlopen(answer.headers["location"]) as response:
        assert response.read() == (media / "prog.mp4").read_bytes()
    server.settled()


def test_the_method_redirect_ignores_the_preconditions_and_the_range_of_a_request(server: Server) -> None:
    for headers in ({"Range": "bytes=5-9"}, {"If-Match": '"x"'}, {"If-None-Match": "*"}, {"Range": "bytes=-0"}):
        assert server.get("/media/prog.mp4", method="redirect", headers=headers).status == 302


@pytest.mark.parametrize("page", ["/tube/watch/headers", "/hls/ts/high.m3u8", "/tube/watch/pair"])
def test_the_method_redirect_is_refused_for_media_that_only_this_server_can_fetch(server: Server, page: str) -> None:
    answer = server.get(page, method="redirect")
    assert (answer.status, answer.code) == (422, "unsupported_conversion")
    server.settled()


def test_auto_never_chooses_the_method_redirect_and_info_does_not_list_it(server: Server) -> None:
    assert server.get("/media/prog.mp4").status == 200
    (format,) = server.get("/media/prog.mp4", path="/info").json()["formats"]
    assert format["methods"] == ["relay", "embedded", "subprocess"]


def test_the_error_about_an_unknown_method_lists_the_method_redirect(server: Server) -> None:
    answer = server.get("/media/prog.mp4", method="magic")
    assert answer.status == 400
    assert "redirect" in answer.json()["detail"]
