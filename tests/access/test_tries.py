"""Tests of the limit on invalid API keys from one client network."""

from __future__ import annotations

import pytest

from serverpy.access.tries import WINDOW_SECONDS, Tries
from serverpy.errors import RateLimited


def is_limited(tries: Tries, network: str, now: float) -> bool:
    try:
        tries.fail(network, now)
    except RateLimited:
        return True
    return False


def test_a_client_network_that_sent_too_many_invalid_keys_is_limited_until_its_time_window_ends() -> None:
    tries = Tries(limit=3)
    assert not any(is_limited(tries, "a", 10) for _ in range(3))
    with pytest.raises(RateLimited) as caught:
        tries.fail("a", 20)
    assert caught.value.retry_after == WINDOW_SECONDS - 10
    assert not is_limited(tries, "b", 20)
    assert not is_limited(tries, "a", 10 + WINDOW_SECONDS)


def test_invalid_keys_in_different_time_windows_are_counted_separately() -> None:
    tries = Tries(limit=1)
    assert not any(is_limited(tries, "a", minute * WINDOW_SECONDS) for minute in range(10))


def test_the_number_of_networks_with_a_counter_of_invalid_keys_is_bounded() -> None:
    tries = Tries(limit=1, kept=100)
    for number in range(1000):
        tries.fail(str(number), 0)
    limited = [number for number in range(900, 1000) if is_limited(tries, str(number), 1)]
    assert limited == list(range(900, 1000))
    assert not is_limited(tries, "0", 1)
