"""Tests that browsers, mpv and VLC play merged video and audio segments from `/stream`. Browsers show the whole
duration, and can seek if the length of the merged file is known."""

from __future__ import annotations

import json

import pytest

from tests.media.merging import WITH_LENGTH
from tests.players.conftest import Browser
from tests.players.tools import codecs_of, play_by_mpv, remux_by_vlc
from tests.server import Server

SECONDS = {"hls-apart": 10.0, "hls-apart-long": 60.0, "hls-apart-byterange": 10.0, "dash": 10.0, "dash-restart": 10.0}


def address(server: Server, page: str) -> str:
    return f"{server.url}{server.target(f'/page/{page}')}"


@pytest.mark.parametrize("name", SECONDS)
def test_a_browser_plays_merged_segments_and_shows_their_whole_duration(
    server: Server, browser: Browser, player: str, name: str
) -> None:
    with browser.page() as page:
        page.go(player)
        found = page.run(f"load({json.dumps(address(server, name))})")
        assert (found["width"], found["height"]) == ((320, 180) if name == "hls-apart-long" else (640, 360))
        assert found["duration"] == pytest.approx(SECONDS[name], abs=0.1)
        if name in WITH_LENGTH:
            assert page.run("seek(6)") == pytest.approx(6, abs=0.01)
        played = page.run("play(1)")
        assert played["error"] is None
        assert played["seconds"] >= 1
        assert played["frames"] > 0
        assert played["hasAudio"]


@pytest.mark.parametrize("name", ["hls-apart-long", "dash"])
def test_mpv_and_vlc_play_merged_segments(server: Server, name: str) -> None:
    play_by_mpv(address(server, name))
    assert codecs_of(remux_by_vlc(address(server, name))) == ["aac", "h264"]
