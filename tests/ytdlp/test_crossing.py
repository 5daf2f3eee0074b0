"""Tests of how yt-dlp's dictionary of a track is serialized in the extraction process and loaded in the download
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
    """A string class that does not exist in the download process."""


def crossed(info: dict[str, Any]) -> dict[str, Any]:
    return load(dump(RawTrack(info, CookieJar()))).info


def test_plain_values_and_objects_that_downloaders_need_are_loaded_as_they_were_dumped() -> None:
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


def test_the_fragments_of_a_dash_listing_are_loaded_as_they_were_dumped() -> None:
    parts = (Part(Fragment(url="u", initial=True), (Fragment(url="v", duration=2.0, first=1, end=9),)), Part(None, ()))
    assert crossed({"fragments": Fragments(Listing(parts))})["fragments"].listing.parts == parts


def test_instances_of_subclasses_of_str_and_dict_are_loaded_as_plain_str_and_dict() -> None:
    found = crossed({"text": Text("x"), "dict": OrderedDict(a=1)})
    assert [type(found["text"]), type(found["dict"])] == [str, dict]


def test_fields_that_no_downloader_reads_are_not_dumped() -> None:
    assert crossed({"id": "x", "automatic_captions": {"en": [lambda: None]}, "formats": [object()]}) == {"id": "x"}


@pytest.mark.parametrize(
    "value",
    [lambda: 1, LazyList([1]), iter("x"), print, object(), CookieJar, type, pickle.loads],
    ids=["lambda", "list", "iterator", "print", "object", "class", "type", "loads"],
)
def test_dumping_an_object_that_only_its_own_process_can_use_raises_cannot_cross(value: object) -> None:
    with pytest.raises(CannotCross):
        dump(RawTrack({"fragments": value}, CookieJar()))


def test_dumping_a_dictionary_above_the_size_limit_raises_too_large() -> None:
    with pytest.raises(TooLarge):
        dump(RawTrack({"data": ["x" * 1000 + str(number) for number in range(MAX_RAW_BYTES // 1000)]}, CookieJar()))


@pytest.mark.parametrize("value", [print, pickle.loads, Text("x"), Path("x")], ids=["print", "loads", "text", "path"])
def test_loading_a_pickle_with_a_class_or_function_that_is_not_allowed_raises_unpickling_error(value: object) -> None:
    out = io.BytesIO()
    pickle.Pickler(out, protocol=5).dump(({"value": value}, []))
    with pytest.raises(pickle.UnpicklingError):
        load(out.getvalue())
