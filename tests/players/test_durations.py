"""Tests that players learn the duration of MP4s that consist of segments, and that they seek in those of known
length."""

from __future__ import annotations

import json

import pytest

from serverpy.sample.encode import SECONDS
from tests.players import firefox
from tests.players.conftest import Browser
from tests.players.tools import said
from tests.server import Server

FORMATS = {
    "hls-fmp4": "b",
    "hls-aes-fmp4": "b",
    "hls-byterange-fmp4": "b",
    "dash": "bv",
    "dash-list": "ba",
    "dash-time": "bv",
    "dash-periods": "ba",
}
"""Maps each page to the format that the tests request."""
WITH_LENGTH = "hls-byterange-fmp4"


def address(server: Server, name: str) -> str:
    return f"{server.url}{server.target(f'/page/{name}', method='relay', format=FORMATS[name])}"


@pytest.mark.parametrize("name", FORMATS)
def test_ffprobe_finds_the_duration_of_an_mp4_that_consists_of_segments(server: Server, name: str) -> None:
    """ffprobe reads only the beginning of a stream without range support."""
    found = said("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", address(server, name))
    assert float(found) == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("name", FORMATS)
def test_a_browser_knows_the_duration_of_an_mp4_that_consists_of_segments_once_it_has_loaded_its_beginning(
    server: Server, browser: Browser, player: str, name: str
) -> None:
    """No browser seeks forward in a stream of unknown length, but Firefox seeks back."""
    with browser.page() as page:
        page.go(player)
        found = page.run(f"load({json.dumps(address(server, name))})")
        assert found["duration"] == pytest.approx(SECONDS, abs=0.1)
        if name == WITH_LENGTH:
            assert page.run("seek(7)") == pytest.approx(7, abs=0.01)
            assert page.run("seek(3)") == pytest.approx(3, abs=0.01)
        played = page.run("play(0.5)")
        assert played["error"] is None
        if isinstance(browser, firefox.Browser):
            assert page.run("seek(0.2)") == pytest.approx(0.2, abs=0.01)
        assert page.run("video.duration") == pytest.approx(SECONDS, abs=0.1)
