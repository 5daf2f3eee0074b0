"""The limit on failed tries of keys."""

from __future__ import annotations

import pytest

from serverpy.access.tries import WINDOW_SECONDS, Tries
from serverpy.errors import RateLimited


def is_limited(tries: Tries, network: str, name: str | None, now: float) -> bool:
    try:
        tries.check(network, name, now)
    except RateLimited:
        return True
    return False


def test_a_network_has_to_wait_after_too_many_failures() -> None:
    tries = Tries(limit=3)
    for _ in range(3):
        tries.check("a", None, 10)
        tries.failed("a", 10)
    with pytest.raises(RateLimited) as caught:
        tries.check("a", None, 20)
    assert caught.value.retry_after == WINDOW_SECONDS - 10
    assert not is_limited(tries, "b", None, 20)
    assert not is_limited(tries, "a", None, 10 + WINDOW_SECONDS)


def test_failures_of_different_minutes_do_not_add_up() -> None:
    tries = Tries(limit=2)
    for minute in range(10):
        tries.failed("a", minute * WINDOW_SECONDS)
        assert not is_limited(tries, "a", None, minute * WINDOW_SECONDS)


def test_a_key_that_was_used_from_a_network_is_not_locked_out_there() -> None:
    tries = Tries(limit=1)
    tries.accepted("a", "bob")
    tries.failed("a", 0)
    assert not is_limited(tries, "a", "bob", 1)
    assert is_limited(tries, "a", "alice", 1)
    assert is_limited(tries, "a", None, 1)


def test_only_the_latest_networks_are_remembered() -> None:
    tries = Tries(limit=1, kept=100)
    for number in range(1000):
        tries.failed(str(number), 0)
        tries.accepted(str(number), "bob")
    limited = [number for number in range(1000) if is_limited(tries, str(number), None, 1)]
    assert limited == list(range(900, 1000))
    assert is_limited(tries, "950", "alice", 1)
    assert not is_limited(tries, "950", "bob", 1)
