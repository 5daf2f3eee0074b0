"""Tests of yt-dlp's format selectors when they are applied to the server's tracks, and of selectors whose evaluation
would never end."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.ytdlp.page.selection import select

FORMATS = (
    Format(format_id="a", ext="m4a", protocol="https", vcodec="none", acodec="mp4a.40.2", tbr=128, language="en"),
    Format(format_id="v", ext="mp4", protocol="https", vcodec="avc1.42c01e", acodec="none", height=720, tbr=2000),
    Format(format_id="b-1", ext="mp4", protocol="https", vcodec="avc1.42c01e", acodec="mp4a.40.2", height=360),
    Format(format_id="x", ext="webm", protocol="https", height=480),
)


@pytest.mark.parametrize(
    ("selector", "picked"),
    [
        ("bv+ba", ("v", "a")),
        ("b", ("x",)),
        ("b[ext=mp4]", ("b-1",)),
        ("bv*[height<=400]", ("b-1",)),
        ("ba,bv", ("a",)),
        ("mp4/webm", ("b-1",)),
        ("b[height=1]/a", ("a",)),
        ("all", ("x",)),
        ("bv*[vcodec~='^((he|a)vc|h26[45])']+ba", ("b-1",)),
        ("bv[filesize<?1]", ("v",)),
        ("mergeall", ("x",)),
        ("bv*[vcodec~=avc]", ("b-1",)),
        ("b[ext!~='^web']", ("b-1",)),
        ("bv*[language~=?'^en$'][vcodec~='(?i)^AVC.*E$']", ("b-1",)),
        ("bv[format_id!~=?'x']", ("v",)),
        ('bv*[ext~="mp4|m4a"]', ("b-1",)),
        ("bv*[ext~='^.p?4$']", ("b-1",)),
        ("b[ext*=eb]", ("x",)),
        ("b[ext^=we]", ("x",)),
        ("b[ext$=m]", ("x",)),
    ],
)
def test_a_selector_chooses_the_same_tracks_as_in_yt_dlp(selector: str, picked: tuple[str, ...]) -> None:
    assert select(selector, FORMATS)[0] == picked


@pytest.mark.parametrize("selector", ["b[height>4000]", "nothing", "flac", "bv[language=fr]"])
def test_a_selector_that_matches_no_track_raises_format_not_found(selector: str) -> None:
    with pytest.raises(FormatNotFound):
        select(selector, FORMATS)


@pytest.mark.parametrize(
    "selector",
    [
        "",
        " ",
        "-",
        "b[",
        "(b",
        "b]",
        "b)",
        "b[ext=mp4])",
        "bv+",
        "+ba",
        "/",
        ",",
        "b[height~=]",
        "b[=]",
        "b" * 2000,
        "b[ext~='(']",
        "\x00",
        "'",
    ],
)
def test_an_invalid_selector_raises_invalid_parameter(selector: str) -> None:
    with pytest.raises((InvalidParameter, FormatNotFound)) as caught:
        select(selector, FORMATS)
    assert selector in ("\x00", "'", " ") or caught.type is InvalidParameter


@pytest.mark.parametrize(
    "selector",
    [
        "all+all",
        "(all)+(all)",
        "+".join(["b"] * 50),
        f"({','.join(['b'] * 100)})+({','.join(['b'] * 100)})",
        "b[format_id~='(a+)+$']",
        "b[format_id~='(.|.)*x']",
        r"b[format_id~='(.)\1*x']",
        "b[format_id~='.*.*.*.*.*x']",
        f"b[protocol~='^{'.?' * 300}Z']",
        f"b[protocol~='^{'.?' * 30}Z']",
        f"b[protocol~='^{'(h|.)' * 14}Z']",
        f"b[protocol ! ~= ? '^{'(h|.)' * 14}Z']",
        f'b[protocol~="^{".??" * 20}Z"]',
        "b[format_id~='.*.*Z']",
        "b[protocol~='.*.*Z'][protocol~='.*.*Y']",
        "b[protocol~='[^Z]*+Z']",
        r"b[protocol~='\b.*\b.*\bZ']",
        "b[protocol~='(?=.*)']",
        "b[protocol~='(?m)^.*$']",
        "(" * 400 + "b" + ")" * 400,
    ],
)
def test_a_selector_whose_evaluation_would_take_very_long_is_refused_within_a_second(selector: str) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidParameter):
        select(selector, FORMATS)
    assert time.thread_time() - started < 1


def test_the_error_for_a_refused_regular_expression_says_what_to_use_in_its_place() -> None:
    with pytest.raises(InvalidParameter, match=r"repeats a group.*Use literals"):
        select("b[ext~='(a+)+$']", FORMATS)


LONG = tuple(
    Format(format_id=str(number), ext="mp4", protocol="https", acodec="none", format_note=f"{number:03}{'ab-' * 20}")
    for number in range(300)
)
ATOMS = ["a", "b", "-", ".", ".*", ".?", "a+", "[ab-]", "[ab-]*", "[^Z]*", "(a|b)", "(ab|a|.)?", "a{2,9}", ".*?"]
OTHERS = ["^", "$", "|", "(", ")", "(?:a|)", "(?i)", "Z", r"\d", "(a*)*", "(b|b)+"]
patterns = st.lists(st.sampled_from(ATOMS + OTHERS), min_size=1, max_size=24).map("".join)
filters = st.lists(patterns, min_size=1, max_size=3).map(
    lambda all_: "bv" + "".join(f"[format_note~='{pattern}']" for pattern in all_)
)


@settings(max_examples=150, deadline=None)
@given(selector=filters)
def test_any_accepted_selector_is_evaluated_within_a_second(selector: str) -> None:
    started = time.thread_time()
    with contextlib.suppress(InvalidParameter, FormatNotFound):
        select(selector, LONG)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("pattern", [".?" * 12 + "Z", ".*[^Z]*Z", "(a|b|.)" * 7 + "Z", "[ab-]*" * 2 + "." * 30 + "Z"])
def test_the_slowest_known_selectors_that_are_accepted_are_evaluated_within_a_second(pattern: str) -> None:
    started = time.thread_time()
    with contextlib.suppress(InvalidParameter, FormatNotFound):
        select(f"bv[format_note~='{pattern}']", LONG * 10)
    assert time.thread_time() - started < 1
