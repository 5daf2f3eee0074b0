"""Tests of media addresses that expire: the server extracts the page once more, and the client gets the right bytes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.replay.results import SIGNED, is_whole_film
from tests.replay.sites import PAGES
from tests.server import Server

MOMENTS = (0, 900, 1_500_000)
"""Bytes of media after which addresses expire: before the first byte, in the header or first segment, or in the middle
of the media."""
QUICK = {"vimeo": 1_500_000, "dailymotion": 900, "twitch-clip": 0, "tiktok": 900, "instagram": 0, "bilibili": 1_500_000}
"""The case of each site that does not wait for `make soak`."""


@pytest.mark.parametrize(
    ("name", "nbytes"),
    [
        pytest.param(name, nbytes, marks=() if QUICK[name] == nbytes else pytest.mark.soak)
        for name in SIGNED
        for nbytes in MOMENTS
    ],
)
def test_a_stream_continues_after_its_media_addresses_have_expired(replayed: Server, name: str, nbytes: int) -> None:
    site, page = PAGES[name]
    replayed.get(page, path="/info")
    issued = site.issued
    if not nbytes:
        site.expire()
    with site.expiring_after(nbytes) if nbytes else nullcontext():
        answer = replayed.get(page)
    assert (answer.status, is_whole_film(name, answer)) == (200, True)
    assert site.issued == issued + 1


@pytest.mark.parametrize(
    "name",
    ["tiktok", "bilibili", *(pytest.param(name, marks=pytest.mark.soak) for name in ("instagram", "twitch-clip"))],
)
def test_a_range_continues_after_its_media_addresses_have_expired(replayed: Server, name: str) -> None:
    site, page = PAGES[name]
    whole = replayed.get(page)
    issued = site.issued
    with site.expiring_after(1_000_000):
        part = replayed.get(page, headers={"Range": "bytes=2000000-", "If-Range": whole.headers["etag"]})
    assert (part.status, part.body == whole.body[2_000_000:]) == (206, True)
    assert site.issued == issued + 1
