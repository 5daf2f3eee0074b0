"""Tests of media addresses that expire: the server extracts the page once more, and the client gets the right bytes."""

from __future__ import annotations

import pytest

from tests.replay.results import SIGNED, is_whole_film
from tests.replay.sites import PAGES
from tests.server import Server


@pytest.mark.parametrize("nbytes", [0, 900, 1_500_000])
@pytest.mark.parametrize("name", SIGNED)
def test_a_stream_continues_after_its_media_addresses_have_expired(replayed: Server, name: str, nbytes: int) -> None:
    """The addresses expire before the first byte, in the header or first segment, or in the middle of the media."""
    site, page = PAGES[name]
    replayed.get(page, path="/info")
    issued = site.issued
    if nbytes:
        site.expire_after(nbytes)
    else:
        site.expire()
    answer = replayed.get(page)
    assert (answer.status, is_whole_film(name, answer)) == (200, True)
    assert site.issued == issued + 1


@pytest.mark.parametrize("name", ["tiktok", "instagram", "bilibili", "twitch-clip"])
def test_a_range_continues_after_its_media_addresses_have_expired(replayed: Server, name: str) -> None:
    site, page = PAGES[name]
    whole = replayed.get(page)
    issued = site.issued
    site.expire_after(1_000_000)
    part = replayed.get(page, headers={"Range": "bytes=2000000-", "If-Range": whole.headers["etag"]})
    assert (part.status, part.body == whole.body[2_000_000:]) == (206, True)
    assert site.issued == issued + 1
