"""Tests of the format that the server chooses if a request has no `format`: `/info` names this format, and the
parameters `height`, `codec`, `lang` and `max_size` restrict the choice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.server import Server

FULL = "/tube/watch/full"
PAGES = ("/page/prog", FULL, "/page/hls-ts", "/page/dash", "/media/prog.mp4", "/page/hls-apart", "/page/hls-group")


@pytest.mark.parametrize("page", PAGES)
def test_info_names_the_format_that_stream_sends_if_a_request_has_no_format(server: Server, page: str) -> None:
    default = server.get(page, path="/info").json()["default"]
    answers = [server.get(page, verb="HEAD", **more) for more in ({}, {"format": default["format"]})]
    fields = ("content-type", "content-length", "etag", "accept-ranges")
    first, second = ([answer.status, *(answer.headers.get(name) for name in fields)] for answer in answers)
    assert first == second
    assert first[0] == 200


def test_the_format_chosen_for_the_lowest_height_is_smaller_than_the_format_chosen_for_height_max(
    server: Server,
) -> None:
    heights = {each["id"]: each["height"] for each in server.get(FULL, path="/info").json()["formats"]}
    low = min(height for height in heights.values() if height)
    lengths = [
        int(server.get(FULL, verb="HEAD", height=height).headers["content-length"]) for height in (str(low), "max")
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize(
    ("parameter", "field", "place"), [("", "", -1), ("height", "height", 0), ("max_size", "size", 0)]
)
def test_a_child_process_follows_the_limits_on_the_default_choice(
    server: Server, parameter: str, field: str, place: int
) -> None:
    """Without limits, the child chooses a film of the greatest height. If the limit is the height or the size of the
    lowest film, it chooses a film of that height."""
    formats = server.get(FULL, path="/info").json()["formats"]
    films = sorted((each for each in formats if each["vcodec"] and each["acodec"]), key=lambda each: each["height"])
    low, wanted = films[0], films[place]
    assert low["height"] < films[-1]["height"]
    limits = {parameter: str(low[field])} if parameter else {}
    target = server.target(FULL, method="subprocess", **limits)
    expected = [each["id"] for each in films if each["height"] == wanted["height"]]
    bodies = [server.get(FULL, format=each).body for each in expected]
    answer = server.ask(target)
    assert (answer.status, answer.body in bodies) == (200, True)


def test_a_child_process_finds_no_format_within_a_very_small_size(server: Server) -> None:
    answer = server.get(FULL, method="subprocess", max_size="1")
    assert (answer.status, answer.code) == (413, "too_large")


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"height": "0"}, 400, "invalid_parameter"),
        ({"height": "tall"}, 400, "invalid_parameter"),
        ({"codec": "divx"}, 400, "invalid_parameter"),
        ({"lang": "e n"}, 400, "invalid_parameter"),
        ({"max_size": "-1"}, 400, "invalid_parameter"),
        ({"max_size": "1kB"}, 413, "too_large"),
        ({"max_size": "1"}, 413, "too_large"),
    ],
)
def test_a_selection_parameter_is_refused_if_its_value_is_invalid_or_if_no_format_satisfies_it(
    server: Server, parameters: dict[str, Any], status: int, code: str
) -> None:
    answer = server.get(FULL, **parameters)
    assert (answer.status, answer.code) == (status, code)
    assert status != 400 or answer.json()["detail"].startswith(f"`{next(iter(parameters))}`: ")


def test_simultaneous_requests_for_info_share_the_attempt_to_open_a_pair_in_hls(
    server: Server, site: SampleSite
) -> None:
    """The segments are MPEG-TS, which cannot be merged, so `/info` names the audio."""
    faults = "/fault/delay=0.2,id=shared"
    with ThreadPoolExecutor() as pool:
        answers = list(
            pool.map(lambda _: server.get(f"/page{faults}/hls/audio/master.m3u8", path="/info").json(), range(4))
        )
    assert {each["default"]["format"] for each in answers} == {"hls-sound-English"}
    segments = {path: count for path, count in site.counts(faults).items() if path.endswith(".ts")}
    assert len(segments) == 2
    assert set(segments.values()) == {1}
