"""Tests of the limits of HTTP clients: the account against which a request counts, and the requests that are
refused."""

from __future__ import annotations

from typing import Any

import pytest

from serverpy.access.grant import UNLIMITED
from serverpy.access.key import Key
from serverpy.access.limits import Limits
from serverpy.access.streams import Streams
from serverpy.errors import KeyForbids, QuotaExceeded, RateLimited
from serverpy.options import ClientLimits

NOON = 20_000 * 86400 + 43200.0
ADDRESS = "192.0.2.1"


def key(**fields: Any) -> Key:
    return Key(name="family", digest=b"", **fields)


def limits(**fields: Any) -> Limits:
    return Limits(ClientLimits(**fields), lambda: NOON)


async def test_the_extractions_of_all_requests_from_an_address_count_against_one_rate_limit() -> None:
    used = limits(rate="2/minute")
    first, second, third = (used.grant_for(ADDRESS) for _ in range(3))
    await first.pay_extraction()
    await second.pay_extraction()
    with pytest.raises(RateLimited, match="at most 2 page extractions in 60 seconds") as refusal:
        await third.pay_extraction()
    assert refusal.value.retry_after == 60
    assert [dict(grant.headers())[b"ratelimit-remaining"] for grant in (first, second, third)] == [b"1", b"0", b"0"]
    await used.grant_for("192.0.2.2").pay_extraction()


async def test_a_request_without_an_extraction_gets_no_rate_limit_headers() -> None:
    used = limits(rate="2/minute")
    grant = used.grant_for(ADDRESS)
    await grant.enter()
    assert grant.headers() == ()
    grant.leave()


async def test_the_rate_limit_of_a_key_applies_to_its_requests_from_all_addresses() -> None:
    used = limits(rate="1/minute")
    grant = used.grant_for(ADDRESS, key(rate="2/minute"))
    await grant.pay_extraction()
    await used.grant_for("192.0.2.2", key(rate="2/minute")).pay_extraction()
    with pytest.raises(RateLimited):
        await used.grant_for(ADDRESS, key(rate="2/minute")).pay_extraction()
    await used.grant_for(ADDRESS).pay_extraction()


async def test_the_rate_limit_of_the_server_applies_to_a_key_without_its_own_rate_limit() -> None:
    used = limits(rate="1/minute")
    await used.grant_for(ADDRESS, key()).pay_extraction()
    with pytest.raises(RateLimited):
        await used.grant_for(ADDRESS, key()).pay_extraction()


async def test_a_request_that_extracts_several_pages_counts_as_one_extraction() -> None:
    used = limits(rate="1/minute")
    grant = used.grant_for(ADDRESS)
    await grant.pay_extraction()
    await grant.pay_extraction()
    with pytest.raises(RateLimited):
        await used.grant_for(ADDRESS).pay_extraction()


async def test_extractions_that_a_request_needs_while_its_stream_is_open_do_not_count_against_the_rate_limit() -> None:
    used = limits(rate="1/minute")
    await used.grant_for(ADDRESS).pay_extraction()
    grant = used.grant_for(ADDRESS)
    grant.settle()
    await grant.pay_extraction()


async def test_the_requests_of_a_key_and_of_an_address_with_the_same_name_are_counted_separately() -> None:
    used = limits(rate="1/minute")
    await used.grant_for("192.0.2.2", Key(name=ADDRESS, digest=b"")).pay_extraction()
    await used.grant_for(ADDRESS).pay_extraction()


@pytest.mark.parametrize(("local_rate", "is_refused"), [(None, False), ("1/minute", True)])
async def test_the_extractions_of_clients_on_this_machine_are_limited_only_by_the_setting_local_rate(
    local_rate: str | None, is_refused: bool
) -> None:
    used = limits(rate="1/minute", local_rate=local_rate)
    await used.grant_for("127.0.0.1", is_local=True).pay_extraction()
    if is_refused:
        with pytest.raises(RateLimited):
            await used.grant_for("127.0.0.1", is_local=True).pay_extraction()
    else:
        await used.grant_for("127.0.0.1", is_local=True).pay_extraction()


async def test_a_stream_beyond_the_maximum_number_for_its_address_is_refused_until_another_stream_ends() -> None:
    used = limits(streams=2)
    used.streams = Streams(free_seconds=0)
    grant = used.grant_for(ADDRESS)
    await grant.enter()
    await used.grant_for(ADDRESS).enter()
    with pytest.raises(RateLimited, match="at most 2 for each key or address") as refusal:
        await grant.enter()
    assert refusal.value.retry_after == 5
    await used.grant_for("192.0.2.2").enter()
    grant.leave()
    await grant.enter()


async def test_open_head_requests_and_open_streams_are_counted_separately() -> None:
    used = limits(streams=1)
    used.streams = Streams(free_seconds=0)
    await used.grant_for(ADDRESS).enter()
    head = used.grant_for(ADDRESS)
    await head.enter(head_only=True)
    with pytest.raises(RateLimited):
        await used.grant_for(ADDRESS).enter(head_only=True)
    head.leave()
    await used.grant_for(ADDRESS).enter(head_only=True)


async def test_a_client_on_this_machine_may_open_any_number_of_streams_unless_it_uses_a_key() -> None:
    used = limits(streams=1)
    used.streams = Streams(free_seconds=0)
    for _ in range(10):
        await used.grant_for("127.0.0.1", is_local=True).enter()
    await used.grant_for("127.0.0.1", key(streams=1), is_local=True).enter()
    with pytest.raises(RateLimited):
        await used.grant_for("127.0.0.1", key(streams=1), is_local=True).enter()


async def test_a_key_that_has_used_up_its_daily_quota_is_refused_until_midnight() -> None:
    used = limits()
    grant = used.grant_for(ADDRESS, key(bytes_per_day=10))
    assert grant.counts_bytes
    await grant.enter()
    grant.spend(10)
    with pytest.raises(QuotaExceeded, match="10 bytes a day"):
        grant.spend(1)
    with pytest.raises(QuotaExceeded) as refusal:
        await used.grant_for(ADDRESS, key(bytes_per_day=10)).enter()
    assert refusal.value.retry_after == 43201
    grant.leave()
    assert len(used.streams) == 0


def test_the_bytes_of_a_request_are_not_counted_if_its_key_has_no_quota() -> None:
    used = limits()
    assert not used.grant_for(ADDRESS).counts_bytes
    assert not used.grant_for(ADDRESS, key()).counts_bytes
    assert not UNLIMITED.counts_bytes


def test_a_key_that_lists_sites_is_refused_for_all_other_sites() -> None:
    grant = limits().grant_for(ADDRESS, key(sites=("youtube",)))
    assert grant.limits_sites
    grant.check_site("youtube:tab")
    with pytest.raises(KeyForbids):
        grant.check_site("Vimeo")


def test_the_account_of_a_grant_is_named_after_its_key_or_after_the_network_of_its_client() -> None:
    used = limits()
    assert used.grant_for(ADDRESS).account == ADDRESS
    assert used.grant_for(ADDRESS, key()).account == "family"
