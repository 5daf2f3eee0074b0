"""yt-dlp's selectors over our tracks, and those that would never end."""

from __future__ import annotations

import time

import pytest

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.ytdlp.selection import select

FORMATS = (
    Format(format_id="a", ext="m4a", protocol="https", vcodec="none", acodec="mp4a.40.2", tbr=128, language="en"),
    Format(format_id="v", ext="mp4", protocol="https", vcodec="avc1.42c01e", acodec="none", height=720, tbr=2000),
    Format(format_id="b-1", ext="mp4", protocol="https", vcodec="avc1.42c01e", acodec="mp4a.40.2", height=360),
    Format(format_id="x", ext="webm", protocol="https", height=480),
)


@pytest.mark.parametrize(
    ("selector", "picked"),
    [
        ("bv+ba", (("v", "a"),)),
        ("b", (("x",),)),
        ("b[ext=mp4]", (("b-1",),)),
        ("bv*[height<=400]", (("b-1",),)),
        ("ba,bv", (("a",), ("v",))),
        ("mp4/webm", (("b-1",),)),
        ("b[height=1]/a", (("a",),)),
        ("all", (("x",), ("b-1",), ("v",), ("a",))),
        ("bv*[vcodec~='^((he|a)vc|h26[45])']+ba", (("b-1",),)),
        ("bv[filesize<?1]", (("v",),)),
        ("mergeall", (("x",),)),
    ],
)
def test_selectors_mean_what_they_mean_to_yt_dlp(selector: str, picked: tuple[tuple[str, ...], ...]) -> None:
    assert select(selector, FORMATS) == picked


@pytest.mark.parametrize("selector", ["b[height>4000]", "nothing", "flac", "bv[language=fr]"])
def test_nothing_found_is_said(selector: str) -> None:
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
def test_what_does_not_parse_is_refused(selector: str) -> None:
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
        r"b[format_id~='(.)\\1*x']",
        "b[format_id~='.*.*.*.*.*x']",
        "(" * 400 + "b" + ")" * 400,
    ],
)
def test_selectors_that_would_keep_the_processor_busy_are_refused(selector: str) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidParameter):
        select(selector, FORMATS)
    assert time.monotonic() - started < 1
