"""Tests of the order in which the entries of a page are tried if a request names none."""

from __future__ import annotations

import pytest

from serverpy.extraction.choice import playable_first
from serverpy.extraction.values import Entry, Kind, Media


def entry(kind: Kind | None) -> Entry:
    """Return an entry with media of the kind `kind`, or one that must still be extracted."""
    if kind is None:
        return Entry(url="https://site.example/1")
    return Entry(media=Media(raw_id="1", id="1", title="", kind=kind, extractor="", webpage_url=""))


@pytest.mark.parametrize(
    ("page", "kinds", "order"),
    [
        ("playlist", ("images", "video", "images"), [2, 1, 3]),
        ("playlist", ("images", None, "audio"), [2, 3, 1]),
        ("playlist", ("video", "audio", None), [1, 2, 3]),
        ("playlist", ("images",), [1]),
        ("images", ("images", "images", "audio"), [1, 2, 3]),
        ("playlist", (), []),
    ],
)
def test_entries_that_are_images_come_last_unless_the_page_is_an_image_post(
    page: Kind, kinds: tuple[Kind | None, ...], order: list[int]
) -> None:
    media = Media(
        raw_id="1", id="1", title="", kind=page, extractor="", webpage_url="", entries=tuple(map(entry, kinds))
    )
    assert [number for number, _ in playable_first(media)] == order
