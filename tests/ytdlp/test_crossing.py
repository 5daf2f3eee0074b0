"""Tests of the form in which yt-dlp's dictionary of a track crosses from the extraction process to the download
process."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from fractions import Fraction as Ratio
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.networking.impersonate import ImpersonateTarget
from yt_dlp.utils import LazyList
from yt_dlp.utils.networking import HTTPHeaderDict

from serverpy.errors import TooLarge
from serverpy.extraction.messages import MAX_RAW_BYTES
from serverpy.extraction.values import Fragment
from serverpy.ytdlp.mpd.formats import Fragments
from serverpy.ytdlp.mpd.listing import Listing, Part
from serverpy.ytdlp.page.crossing import CannotCross, RawTrack, dump, load


class Text(str):
    """A string of a class that only the extraction process knows."""


def crossed(info: dict[str, Any]) -> dict[str, Any]:
    return load(dump(RawTrack(info, CookieJar()))).info


def test_values_and_the_objects_that_downloaders_need_cross() -> None:
    info = {
        "url": "https://media.example/",
        "http_headers": HTTPHeaderDict({"user-agent": "x"}),
        "impersonate": ImpersonateTarget("chrome"),
        "request_data": b"\xff",
        "nested": [{"a": (1, 2.5, None, True)}],
        "ratio": Ratio(1, 3),
    }
    found = crossed(info)
    assert found == info
    assert found["http_headers"].get("USER-AGENT") == "x"


def test_the_fragments_of_a_listing_cross() -> None:
    parts = (Part(Fragment(url="u", initial=True), (Fragment(url="v", duration=2.0, first=1, end=9),)), Part(None, ()))
    assert crossed({"fragments": Fragments(Listing(parts))})["fragments"].listing.parts == parts


def test_objects_of_classes_derived_from_plain_ones_become_plain() -> None:
    found = crossed({"text": Text("x"), "dict": OrderedDict(a=1)})
    assert [type(found["text"]), type(found["dict"])] == [str, dict]


def test_fields_that_no_downloader_reads_do_not_cross() -> None:
    assert crossed({"id": "x", "automatic_captions": {"en": [lambda: None]}, "formats": [object()]}) == {"id": "x"}


@pytest.mark.parametrize(
    "value",
    [lambda: 1, LazyList([1]), iter("x"), print, object(), CookieJar, type, pickle.loads],
    ids=["lambda", "list", "iterator", "print", "object", "class", "type", "loads"],
)
def test_a_dictionary_with_objects_of_its_process_does_not_cross(value: object) -> None:
    with pytest.raises(CannotCross):
        dump(RawTrack({"fragments": value}, CookieJar()))


def test_a_dictionary_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        dump(RawTrack({"data": ["x" * 1000 + str(number) for number in range(MAX_RAW_BYTES // 1000)]}, CookieJar()))


@pytest.mark.parametrize("value", [print, pickle.loads, Text("x"), Path("x")], ids=["print", "loads", "text", "path"])
def test_other_classes_and_functions_are_refused_when_they_arrive(value: object) -> None:
    out = io.BytesIO()
    pickle.Pickler(out, protocol=5).dump(({"value": value}, []))
    with pytest.raises(pickle.UnpicklingError):
        load(out.getvalue())
