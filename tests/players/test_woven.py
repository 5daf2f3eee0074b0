"""Tests that Chromium and Firefox play merged MP4s from `/stream`, and seek in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from tests.players import firefox
from tests.players.conftest import Browser, Page
from tests.players.films import FILMS, sources
from tests.server import Server

EDITED = {"pair-cut", "pair-late"}
"""Merged MP4s with edit lists. Firefox ignores these lists when it computes the duration of such an MP4 or of one of
its source files."""


@dataclass(frozen=True)
class Film:
    """The duration of a merged MP4 and the size of its frames, as read from its source files."""

    seconds: float
    width: int
    height: int


def film_of(name: str) -> Film:
    video, audio = sources(name)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
    return Film(max(end_of(video), end_of(audio)), width, height)


def end_of(file: Path) -> float:
    """Return the time in seconds at which the last packet of `file` ends."""
    with av.open(str(file)) as container:
        (stream,) = container.streams
        assert stream.time_base is not None
        packets = ((packet.pts, packet.duration) for packet in container.demux(stream))
        return float(max(pts + (length or 0) for pts, length in packets if pts is not None) * stream.time_base)


def loaded(page: Page, server: Server, player: str, film: str) -> dict[str, float]:
    page.go(player)
    address = f"{server.url}{server.target(f'/tube/watch/{film}')}"
    found: dict[str, float] = page.run(f"load({json.dumps(address)})")
    return found


@pytest.mark.parametrize("name", FILMS)
def test_a_browser_plays_and_seeks_a_merged_mp4(server: Server, browser: Browser, player: str, name: str) -> None:
    film = film_of(name)
    with browser.page() as page:
        found = loaded(page, server, player, name)
        assert (found["width"], found["height"]) == (film.width, film.height)
        if not (isinstance(browser, firefox.Browser) and name in EDITED):
            assert found["duration"] == pytest.approx(film.seconds, abs=0.1)
        place = film.seconds * 2 / 3
        assert page.run(f"seek({place})") == pytest.approx(place, abs=0.01)
        played = page.run("play(0.5)")
        assert played["error"] is None
        assert played["seconds"] >= 0.5
        assert played["frames"] > 0
        assert played["hasAudio"]
