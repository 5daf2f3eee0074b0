"""Test of ten clients of one live stream whose packager fails on every kind of request: no client is cut, misses a
segment, or gets a segment twice."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad

from tests.streaming.segments.relaying import drained
from tests.streaming.segments.shelf import Shelf
from tests.streaming.segments.show import Show, piece, pieces
from tests.streaming.test_shared_relay import page_of, viewing

CLIENTS = 10
TOTAL = 14
KEY = b"0123456789abcdef"
PAGE = b"<!DOCTYPE html><title>502 Bad Gateway</title>" + b"<p>The packager is restarting.</p>" * 20
FAILURES = ("404", "403", "503", "page", "nothing", "cut", "JSON", "image", "500")
BODIES = {
    "page": PAGE,
    "nothing": b"",
    "JSON": b'{"error":"not found"}',
    "image": b"GIF89a\x01\x00\x01\x00\x80\x00" * 40,
}


@dataclass
class Packager:
    """Media server of a live packager that often fails: on the first request for each segment and key, and on every
    second request for the playlist. The kinds of failures alternate. Each successful request for the playlist publishes
    the next segment."""

    shelf: Shelf
    kinds: itertools.cycle[str] = field(default_factory=lambda: itertools.cycle(FAILURES))
    failed: dict[str, int] = field(default_factory=dict)

    def publish(self, path: str, answer: bytes | None = None) -> None:
        """Serve `answer` at `path` with failures. By default, `answer` is the content already at `path`."""
        make = self.shelf.files[path] if answer is None else answer
        self.shelf.files[path] = lambda: self._answer(path, make if isinstance(make, bytes) else make())

    def refuse(self, target: str) -> int | None:
        """Choose whether and how a request fails. Returns the status of a refused request. Returns None if the response
        has a body, which may be wrong or truncated."""
        count = self.failed[target] = self.failed.get(target, 0) + 1
        fails = count % 2 == 0 if target.endswith(".m3u8") else count == 1
        self._now = next(self.kinds) if fails else ""
        if self._now == "cut":
            self.shelf.cuts[target] = 1
        return int(self._now) if self._now.isdecimal() else None

    def _answer(self, path: str, right: bytes) -> bytes:
        return BODIES.get(self._now, right)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_no_client_of_a_live_stream_is_cut_if_the_packager_fails_on_every_kind_of_request(
    encrypted: bool,
) -> None:
    shelf = Shelf()
    show = Show(shelf, total=TOTAL, before='#EXT-X-KEY:METHOD=AES-128,URI="key"' if encrypted else "")
    packager = Packager(shelf)
    if encrypted:
        shelf.files["/key"] = KEY
        for number in range(TOTAL):
            cipher = AES.new(KEY, AES.MODE_CBC, number.to_bytes(16, "big"))
            shelf.files[f"/{number}.ts"] = cipher.encrypt(pad(piece(number), 16))
    for path in list(shelf.files):
        packager.publish(path)
    shelf.refuse = packager.refuse
    page = page_of(show)
    async with viewing(shelf, page) as view:
        bodies = [await view.open() for _ in range(CLIENTS)]
        visits = page.visits
        data = await asyncio.gather(*map(drained, bodies))
        assert set(data) == {pieces(*range(TOTAL))}
        assert page.visits <= visits + 1
    assert sum(count > 1 for count in packager.failed.values()) >= TOTAL - 1
