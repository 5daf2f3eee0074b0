"""`method=redirect` over HTTP: the client is sent to the media itself, or refused."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest

from serverpy.sample.site import SampleSite
from tests.server import Server


@pytest.mark.parametrize("page", ["/media/prog.mp4", "/page/prog"])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_client_is_redirected_to_media_that_it_can_fetch(
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


def test_conditions_and_ranges_are_left_to_the_media_server(server: Server) -> None:
    for headers in ({"Range": "bytes=5-9"}, {"If-Match": '"x"'}, {"If-None-Match": "*"}, {"Range": "bytes=-0"}):
        assert server.get("/media/prog.mp4", method="redirect", headers=headers).status == 302


@pytest.mark.parametrize("page", ["/tube/watch/headers", "/hls/ts/high.m3u8", "/tube/watch/pair"])
def test_media_that_needs_this_server_is_not_redirected_to(server: Server, page: str) -> None:
    answer = server.get(page, method="redirect")
    assert (answer.status, answer.code) == (422, "unsupported_conversion")
    server.settled()


def test_a_redirect_is_not_chosen_automatically_nor_listed(server: Server) -> None:
    assert server.get("/media/prog.mp4").status == 200
    (format,) = server.get("/media/prog.mp4", path="/info").json()["formats"]
    assert format["methods"] == ["relay", "embedded", "subprocess"]


def test_an_unknown_method_names_redirect_among_the_others(server: Server) -> None:
    answer = server.get("/media/prog.mp4", method="magic")
    assert answer.status == 400
    assert "redirect" in answer.json()["detail"]
