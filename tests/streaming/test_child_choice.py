"""Tests of the format that a yt-dlp child chooses, by yt-dlp's own code: by the options for the default choice, or by a
selector."""

from __future__ import annotations

from typing import Any

import pytest
from yt_dlp import YoutubeDL

from serverpy.default_choice import Wish
from serverpy.streaming.child.choice import order_of, selector_of
from serverpy.ytdlp.commandline import Downloading

Format = dict[str, Any]


def film(id: str, height: int | None, **fields: Any) -> Format:
    return {
        "format_id": id, "url": "https://x.example/", "ext": "mp4", "protocol": "https", "height": height,
        "width": height and height * 2, "vcodec": "avc1.64001f", "acodec": "mp4a.40.2", **fields,
    }  # fmt: skip


def audio(id: str, **fields: Any) -> Format:
    return film(id, None, vcodec="none", **fields)


def picked_by(ydl: YoutubeDL, formats: list[Format], selector: str) -> list[Format]:
    """Return the formats that `ydl` chooses from `formats` by `selector`."""
    info: Any = {"formats": [dict(each) for each in formats]}
    ydl.sort_formats(info)
    picked: list[Format] = ydl._select_formats(info["formats"], ydl.build_format_selector(selector))
    return picked


def chosen(formats: list[Format], wish: Wish) -> str | None:
    """Return the id of the format that yt-dlp chooses by the options for `wish`."""
    options = {"format_sort": order_of(wish).split(","), "quiet": True}
    with YoutubeDL(options, auto_init=False) as ydl:
        picked = picked_by(ydl, formats, selector_of(wish))
    return picked[0]["format_id"] if picked else None


HEIGHTS = [film(str(height), height) for height in (360, 720, 1440, 2160)]
CODECS = [film(name, 720, vcodec=codec) for name, codec in (("h264", "avc1.4d401e"), ("vp9", "vp9"), ("av1", "av01.0"))]
SPOKEN = [film(str(tag), 720, language=tag) for tag in ("fr", "de-AT", "ger", "pt_BR", None)]


@pytest.mark.parametrize(
    ("formats", "wish", "expected"),
    [
        (HEIGHTS, Wish(), "720"),
        (HEIGHTS, Wish(height=None), "2160"),
        (HEIGHTS, Wish(height=1440), "1440"),
        (HEIGHTS, Wish(height=100), "360"),
        ([film("tall", 1920, width=1080), film("wide", 720)], Wish(), "tall"),
        (CODECS, Wish(), "h264"),
        (CODECS, Wish(codec="vp9"), "vp9"),
        (CODECS, Wish(codec="av1"), "av1"),
        (CODECS, Wish(codec="any"), "av1"),
        (SPOKEN, Wish(language="fr"), "fr"),
        (SPOKEN, Wish(language="de-at"), "de-AT"),
        (SPOKEN, Wish(language="deu-AT"), "de-AT"),
        (SPOKEN[2:], Wish(language="de-CH"), "ger"),
        (SPOKEN, Wish(language="pt-BR"), "pt_BR"),
        (SPOKEN[:1], Wish(language="d"), "fr"),
        (SPOKEN, Wish(language="fr']/w[x='"), "pt_BR"),
        ([film("dub", 1080, language_preference=-1), film("own", 720, language_preference=10)], Wish(), "own"),
        ([film("large", 720, filesize=30), film("small", 360, filesize=10)], Wish(max_size=20), "small"),
        ([film("large", 720, filesize_approx=30), film("small", 360, filesize_approx=10)], Wish(max_size=20), "small"),
        ([film("unknown", 720)], Wish(max_size=20), None),
        ([audio("low", abr=64), audio("high", abr=128), film("mute", 720, acodec="none")], Wish(), "high"),
        ([audio("en", language="en"), audio("de", language="de"), film("mute", 720, acodec="none")],
         Wish(language="en"), "en"),
        ([film("mute", 720, acodec="none")], Wish(), "mute"),
        ([film("image", 720, vcodec="none", acodec="none", ext="jpg")], Wish(), "image"),
    ],
)  # fmt: skip
def test_yt_dlp_chooses_by_the_options_of_a_child_as_the_server_chooses_itself(
    formats: list[Format], wish: Wish, expected: str | None
) -> None:
    assert chosen(formats, wish) == expected


PAIRS = [audio("a"), film("mute", 1080, acodec="none"), film("low", 360), film("high", 720)]


@pytest.mark.parametrize(
    ("formats", "selector", "expected"),
    [
        (PAIRS, "bv*+ba/b", ["high"]),
        (PAIRS, "bv+ba/b[height<700]", ["low"]),
        (PAIRS, "(bv*[height<=720]+ba)/b", ["high"]),
        (PAIRS, "(bv+ba/b)[height<700]", ["low"]),
        (PAIRS, "bv+ba/ba", ["a"]),
        (PAIRS, "wv*+wa", ["low"]),
        (PAIRS, "bv+ba", ["mute", "a"]),
        (PAIRS, "b,bv+ba", ["high"]),
        (PAIRS, "b", ["high"]),
        (PAIRS[:2], "bv*+ba/b", ["mute", "a"]),
        (PAIRS, "b[height>9000]", []),
    ],
)
def test_a_child_streams_the_first_alternative_of_a_selector_that_needs_no_merge(
    formats: list[Format], selector: str, expected: list[str]
) -> None:
    with Downloading({"quiet": True, "format": selector}, auto_init=False) as ydl:
        picked = picked_by(ydl, formats, selector)
    found = [part["format_id"] for part in picked[0].get("requested_formats") or picked[:1]] if picked else []
    assert sorted(found) == sorted(expected)
