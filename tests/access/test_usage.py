"""Open streams and bytes of today, by account."""

from __future__ import annotations

from serverpy.access.quotas import Quotas
from serverpy.access.streams import Streams

MIDNIGHT = 20_000 * 86400.0


def test_an_account_opens_at_most_its_number_of_streams() -> None:
    streams = Streams()
    assert [streams.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert streams.enter("b", 2)
    streams.leave("a")
    assert streams.enter("a", 2)


def test_an_account_without_a_limit_opens_any_number_of_streams() -> None:
    streams = Streams()
    assert all(streams.enter("a", None) for _ in range(1000))


def test_an_account_whose_streams_have_ended_is_forgotten() -> None:
    streams = Streams()
    for account in ("a", "a", "b"):
        streams.enter(account, None)
    for account in ("a", "b", "a"):
        streams.leave(account)
    assert len(streams) == 0


def test_bytes_up_to_the_quota_can_be_spent() -> None:
    quotas = Quotas(lambda: MIDNIGHT)
    assert quotas.spend("a", 10, 4)
    assert not quotas.is_spent("a", 10)
    assert quotas.spend("a", 10, 6)
    assert quotas.is_spent("a", 10)
    assert not quotas.is_spent("b", 10)


def test_bytes_beyond_the_quota_use_up_the_rest_of_it() -> None:
    quotas = Quotas(lambda: MIDNIGHT)
    assert quotas.spend("a", 10, 4)
    assert not quotas.spend("a", 10, 7)
    assert quotas.is_spent("a", 10)


def test_a_quota_begins_anew_at_midnight_utc() -> None:
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
