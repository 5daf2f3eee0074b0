"""Tests of the alternatives that the server tries after yt-dlp's first choice by a format selector."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.errors import FormatNotFound, InvalidParameter
from serverpy.extraction.messages import Format
from serverpy.ytdlp.page.candidates import Candidates, parts_of
from serverpy.ytdlp.page.details import fields_of
from serverpy.ytdlp.page.selection import select
from serverpy.ytdlp.page.selector_filters import LimitedFilters
from serverpy.ytdlp.page.selector_tree import parse
from serverpy.ytdlp.session.log import Log


def audio(id: str, ext: str, kind: int, **fields: Any) -> Format:
    return Format(format_id=id, ext=ext, protocol="https", vcodec="none", acodec="x", kind=kind, **fields)


def video(id: str, ext: str, kind: int, height: int, acodec: str = "none") -> Format:
    return Format(format_id=id, ext=ext, protocol="https", vcodec="x", acodec=acodec, kind=kind, height=height)


MP4, WEBM = 1, 2
FORMATS = (
    audio("aac-low", "m4a", MP4, tbr=64),
    audio("aac", "m4a", MP4, tbr=128, language="en"),
    audio("opus", "webm", WEBM, tbr=130, details='{"abr":130,"asr":48000}'),
    video("film-webm", "webm", WEBM, 360, acodec="opus"),
    video("film", "mp4", MP4, 360, acodec="aac"),
    video("h264-480", "mp4", MP4, 480),
    video("h264-720", "mp4", MP4, 720),
    video("vp9-720", "webm", WEBM, 720),
    video("vp9-1080", "webm", WEBM, 1080),
)


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("bv+ba", ["vp9-1080+opus", "vp9-1080+aac", "h264-720+opus", "h264-720+aac"]),
        ("bv*+ba/b", ["vp9-1080+opus", "vp9-1080+aac", "h264-720+opus", "h264-720+aac", "film", "film-webm"]),
        ("bv*[height<=480]+ba/b", ["h264-480+opus", "h264-480+aac", "film", "film-webm"]),
        ("bv[ext=webm]+ba/bv+ba[ext=m4a]/b", ["vp9-1080+opus", "vp9-1080+aac", "h264-720+aac", "film", "film-webm"]),
        ("(bv/b)+ba[abr>=100]", ["vp9-1080+opus", "h264-720+opus", "film", "film-webm"]),
        ("bv.2+ba", ["vp9-720+opus", "vp9-720+aac", "h264-720+opus", "h264-720+aac"]),
        ("wv+wa", ["h264-480+aac-low", "h264-480+opus", "vp9-720+aac-low", "vp9-720+opus"]),
        ("(mp4,webm)[height<480]", ["film", "film-webm"]),
        ("bv,ba", ["vp9-1080", "h264-720", "opus", "aac"]),
        ("ba[asr=48000]/b", ["opus", "film", "film-webm"]),
        ("all[vcodec!=none]", ["vp9-1080", "h264-720", "film", "film-webm"]),
        ("vp9-720+aac/h264-480+aac", ["vp9-720+aac", "h264-480+aac"]),
        ("[height<=360]", ["film", "film-webm"]),
        (" bv [ height <= 480 ] + ba / b ", ["h264-480+opus", "h264-480+aac", "film", "film-webm"]),
        ("ba[language='en']/b[ext='we]bm']/b.2", ["aac", "film-webm"]),
    ],
)
def test_each_next_choice_is_that_of_yt_dlp_if_the_better_formats_of_the_same_kind_are_missing(
    selector: str, chosen: list[str]
) -> None:
    assert ["+".join(each) for each in select(selector, FORMATS)] == chosen


@pytest.mark.parametrize("selector", ['"bv"', "bv#x", "b\\", "bv/'x'"])
def test_a_selector_with_quotes_outside_of_filters_is_left_to_yt_dlp(selector: str) -> None:
    assert parse(selector) is None


NAMES = st.sampled_from(
    ["b", "w", "bv", "ba", "bv*", "ba*", "b*", "w*", "wv", "wa", "bv.2", "wv*.2", "best", "worstaudio", "bestvideo",
     "all", "mergeall", "mp4", "m4a", "webm", "aac", "h264-480", "gone"]
)  # fmt: skip
FILTERS = st.sampled_from(
    ["", "", "[height<=480]", "[ext=mp4]", "[language=en]", "[tbr>?100]", "[ext~='^w'][height>0]", "[asr=48000]"]
)
SELECTORS = st.recursive(
    st.builds(str.__add__, NAMES, FILTERS),
    lambda inner: st.one_of(
        st.builds("{}/{}".format, inner, inner),
        st.builds("({}+{})".format, inner, inner),
        st.builds("{}+{}".format, NAMES, NAMES),
        st.builds("({},{}){}".format, inner, inner, FILTERS),
        st.builds("({}){}".format, inner, FILTERS),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(selector=SELECTORS, formats=st.lists(st.sampled_from(FORMATS), min_size=1, max_size=7, unique=True))
def test_the_first_candidate_of_any_selector_is_the_first_choice_of_yt_dlp(
    selector: str, formats: list[Format]
) -> None:
    try:
        select(selector, formats)
    except InvalidParameter:
        return  # products of lists of formats
    except FormatNotFound:
        chosen = None
    else:
        with ydl() as each:
            dicts = [fields_of(item) for item in formats]
            chosen = each._select_formats(dicts, each.build_format_selector(selector))[0]
    node = parse(selector)
    assert node is not None
    with ydl() as each:
        dicts = [fields_of(item) for item in formats]
        first = next(Candidates(each, dicts).of(node, dicts), None)
    assert _ids(first) == _ids(chosen)


def ydl() -> LimitedFilters:
    return LimitedFilters({"logger": Log(), "check_formats": False, "cachedir": False}, auto_init=False)


def _ids(picked: dict[str, Any] | None) -> list[str] | None:
    return None if picked is None else [each["format_id"] for each in parts_of(picked)]
