"""Tests that compare the segments that ServerPY finds in DASH manifests with those of two other parsers: mpd-parser (of
video.js) and yt-dlp."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor

from tests.players.tools import NODE, node_path, tool
from tests.ytdlp.mpd.corpus import CORPUS
from tests.ytdlp.mpd.listed import BASE, URL, found, listed

Segments = dict[str, list[tuple[str, list[int] | None, float | None, bool]]]


@pytest.fixture(scope="module")
def peer() -> dict[str, Any]:
    """Run mpd-parser, and return the segments that it finds in each manifest."""
    question = json.dumps({name: {"url": URL, "text": case.text} for name, case in CORPUS.items()})
    done = subprocess.run(
        [tool("node"), NODE / "mpd.cjs"],
        input=question,
        env={"PATH": os.environ["PATH"], "NODE_PATH": node_path("mpd-parser")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def ours(name: str) -> Segments:
    return {
        each.seed.id or "": [
            (one.url, None if one.end is None else [one.first, one.end], one.duration, one.initial)
            for one in each.listing or ()
        ]
        for each in found(CORPUS[name].text)
    }


def by_ytdlp(name: str) -> dict[str, list[tuple[str, float | None]]] | None:
    """Return the URLs and durations that yt-dlp's own parser finds in a manifest, or None if the parser fails."""
    with YoutubeDL({"quiet": True, "logger": Silent(), "cachedir": False}, auto_init=False) as ydl:
        extractor = InfoExtractor(ydl)
        try:
            formats = extractor._parse_mpd_formats(
                ElementTree.fromstring(CORPUS[name].text), mpd_base_url=BASE, mpd_url=URL
            )
        except (KeyError, IndexError):
            return None
    segments = {}
    for each in formats:
        base = each["fragment_base_url"]
        segments[each["format_id"]] = [
            (one.get("url") or urljoin(base, one["path"]), one.get("duration")) for one in each["fragments"]
        ]
    return segments


class Silent:
    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def rounded(found: Any) -> Any:
    """Round the numbers in the segments, so that the results of different calculations are equal."""
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 6), parse_int=float)


@pytest.mark.parametrize("name", CORPUS)
def test_mpd_parser_finds_the_same_segments_as_serverpy_unless_the_difference_is_explained(
    name: str, peer: dict[str, Any]
) -> None:
    case, theirs = CORPUS[name], peer[name]
    if case.peer is None:
        assert not isinstance(theirs, str), theirs
        assert rounded(ours(name)) == rounded(theirs)
    else:
        assert isinstance(theirs, str) or rounded(ours(name)) != rounded(theirs)


@pytest.mark.parametrize("name", CORPUS)
def test_yt_dlp_finds_the_same_segments_as_serverpy_unless_the_difference_is_explained(name: str) -> None:
    theirs = by_ytdlp(name)
    mine = {id_: [(url, seconds) for url, _, seconds, _ in parts] for id_, parts in ours(name).items()}
    ranged = any(span for parts in ours(name).values() for _, span, _, _ in parts)
    if CORPUS[name].ytdlp is None:
        assert theirs is not None
        assert rounded(theirs) == rounded(mine)
    else:
        assert theirs is None or ranged or rounded(theirs) != rounded(mine)


@pytest.mark.parametrize("name", [name for name, case in CORPUS.items() if case.right])
def test_serverpy_finds_the_right_segments_where_both_other_parsers_are_wrong(name: str) -> None:
    assert listed(CORPUS[name].text) == CORPUS[name].right


def test_every_difference_between_serverpy_and_another_parser_is_explained() -> None:
    for name, case in CORPUS.items():
        assert case.right is not None or case.peer is None, name
        assert all(re.match("(mpd-parser|yt-dlp) ", why) for why in (case.peer, case.ytdlp) if why)
