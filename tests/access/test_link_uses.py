"""Tests of the limits on the uses and bytes of signed links, with the range requests that media players send."""

from __future__ import annotations

import pytest

from serverpy.access.grant import UNLIMITED
from serverpy.access.link_grant import LinkGrant
from serverpy.access.link_uses import LinkUses, asks_from_start
from serverpy.access.links import SKEW_SECONDS, Link
from serverpy.errors import Busy, LinkInvalid, QuotaExceeded
from serverpy.ranges import parse_range

SIZE = 5_000_000


def link(id: str = "a", *, expires: int = 1000, uses: int | None = None, max_bytes: int | None = None) -> Link:
    return Link(url="http://a/", expires=expires, id=id.encode(), uses=uses, max_bytes=max_bytes)


def play(uses: LinkUses, shared: Link, header: str | None, account: str = "key bob") -> None:
    """Count a request for the range in `header` in the same way as `api/links.py`. If `header` is None, the request is
    for the whole file of `SIZE` bytes."""
    asked = None if header is None else parse_range(header)
    uses.check(shared, from_start=asks_from_start(asked))
    if asked is None:
        uses.begin(shared, account, 0, None)
        return
    first = max(0, SIZE - (asked.last or 0)) if asked.first is None else asked.first
    last = SIZE - 1 if asked.last is None or asked.first is None else asked.last
    uses.begin(shared, account, first, last - first + 1)


PLAYERS: dict[str, list[str | None]] = {
    "curl": [None],
    "curl that resumes": [None, "bytes=1000000-"],
    "mpv, a film with its index at the end": ["bytes=0-", "bytes=4900000-", "bytes=48-", "bytes=2500000-"],
    "VLC": [None, "bytes=4900000-", "bytes=40-"],
    "Chromium": ["bytes=0-", "bytes=4980736-", "bytes=3000000-"],
    "Safari": ["bytes=0-1", "bytes=0-4999999", "bytes=4980736-4999999", "bytes=65536-4999999"],
    "a downloader that uses four connections": [
        "bytes=0-1249999",
        "bytes=1250000-2499999",
        "bytes=2500000-3749999",
        "bytes=3750000-4999999",
    ],
    "a player that requests the end of the file first": ["bytes=-1000", "bytes=48-"],
}


@pytest.mark.parametrize("player", PLAYERS)
def test_the_range_requests_of_a_player_that_plays_a_file_once_count_as_one_use_of_a_link(player: str) -> None:
    uses, shared = LinkUses(), link(uses=1)
    for header in PLAYERS[player]:
        play(uses, shared, header)
    for again in (None, "bytes=0-"):
        with pytest.raises(LinkInvalid, match=r"reached its maximum number of uses \(1\)"):
            play(uses, shared, again)


def test_a_range_request_that_skips_the_first_byte_is_allowed_after_the_last_use_of_a_link() -> None:
    uses, shared = LinkUses(), link(uses=2)
    for header in (None, "bytes=0-", "bytes=5-", "bytes=-7"):
        play(uses, shared, header)


def test_a_range_request_that_skips_the_first_byte_counts_as_a_use_if_the_link_is_unused() -> None:
    """If only requests for the first byte counted as uses, a client could use a link with `uses=1` any number of times
    by never requesting that byte."""
    uses, shared = LinkUses(), link(uses=1)
    play(uses, shared, "bytes=1-")
    play(uses, shared, "bytes=2-")
    with pytest.raises(LinkInvalid):
        play(uses, shared, None)


def test_a_response_from_the_first_byte_counts_as_a_use_even_if_the_client_requested_a_later_range() -> None:
    """If the media server ignores Range, the response begins with the first byte."""
    uses, shared = LinkUses(), link(uses=1)
    play(uses, shared, None)
    uses.check(shared, from_start=False)
    with pytest.raises(LinkInvalid):
        uses.begin(shared, "key bob", 0, None)


def test_the_second_of_two_concurrent_requests_for_the_last_use_of_a_link_is_refused() -> None:
    uses, shared = LinkUses(), link(uses=1)
    uses.check(shared, from_start=True)
    uses.check(shared, from_start=True)
    uses.begin(shared, "key bob", 0, None)
    with pytest.raises(LinkInvalid):
        uses.begin(shared, "key bob", 0, None)


def test_the_bytes_of_all_streams_of_a_link_count_against_the_byte_limit_of_the_link() -> None:
    uses, shared = LinkUses(), link(max_bytes=100)
    grant = LinkGrant(UNLIMITED, spend=lambda nbytes: uses.spend(shared, "key bob", nbytes))
    play(uses, shared, None)
    grant.spend(60)
    play(uses, shared, "bytes=60-")
    grant.spend(40)
    for header in (None, "bytes=5-"):
        with pytest.raises(LinkInvalid, match="All bytes"):
            play(uses, shared, header)
    with pytest.raises(QuotaExceeded):
        grant.spend(1)


def test_a_chunk_beyond_the_byte_limit_of_a_link_raises_an_error_and_uses_up_the_link() -> None:
    uses, shared = LinkUses(), link(max_bytes=100)
    uses.spend(shared, "key bob", 99)
    with pytest.raises(QuotaExceeded) as caught:
        uses.spend(shared, "key bob", 2)
    assert caught.value.left == 1
    with pytest.raises(LinkInvalid):
        uses.check(shared, from_start=False)


def test_the_server_keeps_no_counters_for_a_link_without_limits() -> None:
    uses, shared = LinkUses(), link()
    play(uses, shared, None)
    uses.spend(shared, "key bob", 1 << 40)
    assert len(uses) == 0


def test_only_expired_links_lose_their_counters_if_there_are_too_many_links_with_counters() -> None:
    now = 0.0
    uses = LinkUses(most=2, clock=lambda: now)
    play(uses, link("a", uses=1, expires=1000), None)
    play(uses, link("b", uses=1, expires=2000), None)
    with pytest.raises(Busy):
        play(uses, link("c", uses=1), None)
    now = 1000 + SKEW_SECONDS
    play(uses, link("c", uses=1, expires=2000), None)
    assert len(uses) == 2
    with pytest.raises(LinkInvalid):
        play(uses, link("b", uses=1, expires=2000), None)


def test_the_number_of_links_with_counters_is_limited_for_each_account() -> None:
    uses = LinkUses(most=10, share=2, clock=lambda: 0)
    for id in "ab":
        play(uses, link(id, uses=1), None)
    with pytest.raises(Busy):
        play(uses, link("c", uses=1), None)
    play(uses, link("d", uses=1), None, "key al")
    assert len(uses) == 3
