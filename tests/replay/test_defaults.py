"""Tests of the default choice on replayed sites. A request without `format` gets the format that `yt-dlp -S res:1080`
chooses. If that format does not support range requests, or cannot be merged, the server chooses another one: one of the
same height that supports them, or the best single format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serverpy.sample.hls import parts_of
from tests.replay.internet import Internet
from tests.replay.results import LOW, SEVERAL, SINGLE, is_whole_film, row
from tests.replay.site import read
from tests.replay.sites import PAGES
from tests.replay.stock import Choice
from tests.server import Server
from tests.wire import Answer

DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"


def info(server: Server, name: str) -> dict[str, Any]:
    answer = server.get(PAGES[name][1], path="/info")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def stream(server: Server, name: str, headers: dict[str, str] | None = None, **params: str) -> Answer:
    return server.get(PAGES[name][1], headers=headers, **params)


def has_ranges(answer: Answer) -> bool:
    return answer.headers["accept-ranges"] == "bytes"


def height_of(found: dict[str, Any], name: str) -> int:
    """Return the shorter side, in pixels, of the format that `/info` names as the default."""
    video = found["default"]["format"].split("+")[0]
    width, height = next((each["width"], each["height"]) for each in found["formats"] if each["id"] == video)
    return int(min(side for side in (width, height) if side))


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in LOW])
def test_the_default_is_the_choice_of_yt_dlp_or_a_format_of_equal_height_with_ranges(
    replayed: Server, stock: dict[str, Choice], name: str
) -> None:
    found, choice = info(replayed, name), stock[PAGES[name][1]]
    ids = tuple(found["default"]["format"].split("+"))
    answer = replayed.get(PAGES[name][1], verb="HEAD")
    assert answer.status == 200
    assert ids == choice.ids or has_ranges(answer)
    assert height_of(found, name) == choice.height == 1080
    assert row(name, "+".join(ids), choice, has_ranges=has_ranges(answer)) in DOCS.read_text()


def test_the_best_single_format_is_sent_if_the_best_pair_is_in_mpeg_ts(
    replayed: Server, stock: dict[str, Choice]
) -> None:
    """`/info` names that format, too, before and after it was sent. Every URL below is another page for the cache."""
    page = PAGES["ted"][1]
    for number, order in enumerate((("/info", "/stream"), ("/stream", "/info"))):
        answers = {path: replayed.get(f"{page}?{number}", path=path) for path in order}
        assert answers["/info"].json()["default"]["format"] == "h264-1200k"
        assert answers["/stream"].body == stream(replayed, "ted", format="h264-1200k").body
    assert row("ted", "h264-1200k", stock[page], has_ranges=has_ranges(answers["/stream"])) in DOCS.read_text()


def test_a_live_broadcast_is_streamed_from_a_segment_to_its_end(replayed: Server, internet: Internet) -> None:
    """The first playlist lists three segments, at which a stream begins. The server loads it again after a target
    duration of two seconds."""
    site, page = PAGES["twitch-live"]
    answer = replayed.get(f"{page}?another")  # the broadcast of the page itself may have ended in another test
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == b"".join(read(f"hls/{part}") for part in parts_of("ts", "high"))
    assert len(internet.asked("video-weaver.fra02.hls.ttvnw.net", f"/sig{site.issued}/high/index.m3u8")) == 2


@pytest.mark.parametrize("name", [name for name in PAGES if name != "twitch-live"])
def test_a_request_without_format_gets_the_whole_film_and_ranges_of_it(replayed: Server, name: str) -> None:
    answer = stream(replayed, name)
    assert answer.status == 200, answer.body
    assert is_whole_film(name, answer)
    if has_ranges(answer):
        size = len(answer.body)
        for first, last in ((0, 0), (1000, size // 2), (size // 2, size - 1)):
            part = stream(replayed, name, {"Range": f"bytes={first}-{last}", "If-Range": answer.headers["etag"]})
            assert (part.status, part.headers["content-range"]) == (206, f"bytes {first}-{last}/{size}")
            assert part.body == answer.body[first : last + 1]


@pytest.mark.parametrize(("name", "item"), [("x-two", "1"), ("x-two", "2"), ("instagram-carousel", "2")])
def test_an_item_of_a_page_with_several_items_is_a_whole_film(replayed: Server, name: str, item: str) -> None:
    assert name in SEVERAL
    answer = stream(replayed, name, item=item)
    assert is_whole_film(name, answer)
    assert answer.body == stream(replayed, name).body
