"""Tests of the counters that the server keeps for each account: open streams, and bytes sent today."""

from __future__ import annotations

import asyncio

from serverpy.access.quotas import Quotas
from serverpy.access.streams import Streams

MIDNIGHT = 20_000 * 86400.0


async def test_a_stream_is_refused_if_its_account_has_the_maximum_number_of_streams_open() -> None:
    streams = Streams(free_seconds=0)
    assert [await streams.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert await streams.enter("b", 2)
    streams.leave("a")
    assert await streams.enter("a", 2)


async def test_a_stream_beyond_the_maximum_waits_until_another_stream_of_the_account_ends() -> None:
    streams = Streams(free_seconds=60)
    assert await streams.enter("a", 1)
    waiting = [asyncio.ensure_future(streams.enter("a", 1)) for _ in range(3)]
    await asyncio.sleep(0)
    for left in (3, 2, 1):
        assert sum(not each.done() for each in waiting) == left
        streams.leave("a")
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        waiting = [each for each in waiting if each not in done]
        assert [each.result() for each in done] == [True]
    streams.leave("a")
    assert len(streams) == 0


async def test_an_account_without_open_streams_has_no_stream_counter() -> None:
    streams = Streams()
    for account in ("a", "a", "b"):
        await streams.enter(account, 2)
    for account in ("a", "b", "a"):
        streams.leave(account)
    assert len(streams) == 0


def test_an_account_can_spend_exactly_its_quota_of_bytes() -> None:
    quotas = Quotas(lambda: MIDNIGHT)
    assert quotas.spend("a", 10, 4) == 4
    assert not quotas.is_spent("a", 10)
    assert quotas.spend("a", 10, 6) == 6
    assert quotas.is_spent("a", 10)
    assert not quotas.is_spent("b", 10)


def test_spending_more_bytes_than_the_quota_has_left_spends_only_the_bytes_that_are_left() -> None:
    quotas = Quotas(lambda: MIDNIGHT)
    assert [quotas.spend("a", 10, 4), quotas.spend("a", 10, 7), quotas.spend("a", 10, 7)] == [4, 6, 0]
    assert quotas.is_spent("a", 10)


def test_quotas_are_reset_at_midnight_utc() -> None:
    now = MIDNIGHT + 86390
    quotas = Quotas(lambda: now)
    quotas.spend("a", 10, 10)
    quotas.spend("b", 10, 1)
    assert quotas.seconds_left() == 10
    now = MIDNIGHT + 86399.9
    assert quotas.is_spent("a", 10)
    now = MIDNIGHT + 86400
    assert not quotas.is_spent("a", 10)
    assert len(quotas) == 0
