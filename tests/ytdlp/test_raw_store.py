"""Tests of the worker's store of raw media (yt-dlp's own dictionaries). The worker keeps them for later downloads,
within limits."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

import pytest

from serverpy.errors import FormatNotFound, ItemNotFound
from serverpy.ytdlp.page.raw_store import RawMedia, RawStore, estimate


def raw(info: dict[str, Any]) -> RawMedia:
    return RawMedia(info, CookieJar())


def test_the_raw_store_drops_the_least_recently_used_extraction_first() -> None:
    store = RawStore(count=2)
    store.put("a", raw({"id": "a"}))
    store.put("b", raw({"id": "b"}))
    assert store.get("a")
    store.put("c", raw({"id": "c"}))
    assert [store.get(name) is not None for name in "abc"] == [True, False, True]


def test_the_number_of_bytes_in_the_raw_store_is_limited() -> None:
    store = RawStore(limit=100_000)
    for number in range(20):
        store.put(str(number), raw({"data": "x" * 30_000}))
    assert kept(store) == ["17", "18", "19"]
    store.put("huge", raw({"data": "x" * 200_000}))
    assert store.get("huge") is None
    store.put("19", raw({}))
    store.put("20", raw({"data": "x" * 30_000}))
    assert kept(store) == ["17", "18", "19", "20"]


def kept(store: RawStore) -> list[str]:
    return [str(number) for number in range(21) if store.get(str(number))]


def test_each_item_of_a_playlist_in_the_raw_store_can_be_found_by_its_own_id() -> None:
    store = RawStore()
    item = {"id": "2", "formats": [{"format_id": "f", "url": "u"}], "title": "Two"}
    store.put("a", raw({"_type": "playlist", "entries": [{"_type": "url", "url": "x"}, item]}))
    found = store.get("a.2")
    assert found
    assert found.info is item
    assert found.format("f") == {"id": "2", "title": "Two", "format_id": "f", "url": "u"}
    with pytest.raises(FormatNotFound):
        found.format("g")
    for number in (0, 1, 3):
        with pytest.raises(ItemNotFound):
            store.get(f"a.{number}")
    assert store.get("a.x") is None
    assert store.get("b.2") is None


def test_the_size_of_a_dictionary_that_contains_itself_can_be_estimated() -> None:
    loop: dict[str, Any] = {"text": "x" * 1000}
    loop["self"] = loop
    assert 1000 < estimate(loop) < 2000
