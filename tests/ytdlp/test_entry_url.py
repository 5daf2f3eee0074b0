"""Tests of the addresses of playlist items that have not been extracted yet: each leads to what yt-dlp extracts."""

from __future__ import annotations

from typing import Any

import pytest

from serverpy.extraction.values import Entry, OwnAddress
from serverpy.ytdlp.page.entry_url import MAX_FIELDS_BYTES, entry_url

FILM = "https://cdn.example/film.mp4"
VIMEO = "https://vimeo.com/1"
SMUGGLED = f"{FILM}#__youtubedl_smuggle=%7B%22referer%22%3A+%22https%3A%2F%2Fa.example%2F%22%7D"


def url_of(**entry: Any) -> str | None:
    return entry_url({"_type": "url", **entry})


def own(**entry: Any) -> OwnAddress | None:
    url = url_of(**entry)
    return None if url is None else OwnAddress.read(url)


@pytest.mark.parametrize(
    "entry",
    [
        {"url": FILM},
        {"url": FILM, "ie_key": "Generic"},
        {"url": FILM, "ie_key": "An extractor that does not exist"},
        {"url": "film", "webpage_url": FILM},
        {"url": "film", "original_url": FILM, "title": "Film"},
    ],
)
def test_the_url_of_an_item_is_an_http_url_if_that_leads_to_the_item(entry: dict[str, Any]) -> None:
    assert url_of(**entry) == FILM


def test_the_url_of_an_item_is_the_url_alone_if_the_extractor_that_it_names_matches_the_url() -> None:
    assert url_of(url=VIMEO, ie_key="Vimeo") == VIMEO
    assert url_of(url="1", webpage_url=VIMEO, ie_key="Vimeo") == VIMEO


@pytest.mark.parametrize("entry", [{"url": VIMEO}, {"url": "1", "webpage_url": VIMEO}])
def test_an_item_whose_extractor_is_not_the_first_that_accepts_its_url_has_an_address_with_the_extractor(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    monkeypatch.setattr("serverpy.ytdlp.page.entry_url.first_suitable", lambda _: "AnEarlierExtractor")
    assert own(ie_key="Vimeo", **entry) == OwnAddress("Vimeo", entry["url"] if entry["url"] == VIMEO else "1")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"url": "kaltura:1:2", "ie_key": "Kaltura"}, OwnAddress("Kaltura", "kaltura:1:2")),
        ({"url": "kaltura:1:2"}, OwnAddress("", "kaltura:1:2")),
        ({"url": "nrk:abc", "ie_key": "Generic"}, OwnAddress("", "nrk:abc")),
        ({"url": "1234567", "ie_key": "Vimeo"}, OwnAddress("Vimeo", "1234567")),
        ({"url": FILM, "ie_key": "Vimeo"}, OwnAddress("Vimeo", FILM)),
    ],
)
def test_the_address_of_an_item_names_the_extractor_if_the_url_alone_does_not_lead_to_it(
    entry: dict[str, Any], expected: OwnAddress
) -> None:
    assert own(**entry) == expected


@pytest.mark.parametrize("url", [None, "", "film", "/film.mp4", "file:///etc/passwd", "data:video/mp4,x", ":x"])
def test_an_item_without_an_address_that_yt_dlp_can_extract_has_no_url(url: str | None) -> None:
    assert url_of(url=url) is None


def test_a_transparent_item_passes_on_all_of_its_fields_that_have_a_value() -> None:
    entry = {
        "title": "Title",
        "duration": 1.5,
        "uploader": None,
        "http_headers": {"Referer": "https://a.example/"},
        "chapters": [{"start_time": 0, "title": "One"}],
        "id": "own-id",
        "extractor": "A",
        "extractor_key": "A",
        "__post_extractor": None,
        "generator": iter([1]),
    }
    passed = {key: entry[key] for key in ("title", "duration", "http_headers", "chapters")}
    found = own(url=FILM, _type="url_transparent", **entry)
    assert found == OwnAddress("", FILM, passed)
    assert own(url=VIMEO, ie_key="Vimeo", _type="url_transparent", title="T") == OwnAddress(
        "Vimeo", VIMEO, {"title": "T"}
    )


def test_a_transparent_item_without_fields_and_an_opaque_one_are_addressed_by_their_url_alone() -> None:
    assert url_of(url=FILM, _type="url_transparent", id="1", title=None) == FILM
    assert url_of(url=FILM, title="Title", duration=7) == FILM


def test_the_longest_fields_of_a_transparent_item_are_left_out_if_the_address_would_be_too_long() -> None:
    found = own(url=FILM, _type="url_transparent", title="T", description="x" * MAX_FIELDS_BYTES, duration=7)
    assert found == OwnAddress("", FILM, {"title": "T", "duration": 7})


@pytest.mark.parametrize(
    ("url", "public", "plain"),
    [
        (FILM, FILM, True),
        (SMUGGLED, FILM, False),
        (str(OwnAddress("Vimeo", FILM, {"title": "Title"})), FILM, False),
        (str(OwnAddress("", SMUGGLED, {"title": "Title"})), FILM, False),
        (str(OwnAddress("Kaltura", "kaltura:1:2")), None, False),
        (None, None, False),
    ],
)
def test_the_public_url_of_an_item_is_one_that_a_client_can_request(
    url: str | None, public: str | None, plain: bool
) -> None:
    entry = Entry(url=url)
    assert (entry.public_url, entry.is_plain) == (public, plain)
