"""Tests of rate limits: which extractions count, the RateLimit-* header fields, and the memory that the counters
take."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.access.rates import Rates
from serverpy.access.windows import MAX_COUNTERS, Windows, parse


class Clock:
    """A clock whose time a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_an_extraction_beyond_the_rate_limit_is_refused_until_the_window_ends() -> None:
    clock = Clock()
    rates = Rates(clock)
    found = [await rates.count("2/minute", "a") for _ in range(3)]
    assert [(each.is_exceeded, each.remaining) for each in found] == [(False, 1), (False, 0), (True, 0)]
    clock.now += 59
    assert (await rates.count("2/minute", "a")).reset == 1
    clock.now += 1
    assert not (await rates.count("2/minute", "a")).is_exceeded


async def test_each_account_has_its_own_rate_limit_counter() -> None:
    rates = Rates(Clock())
    assert not (await rates.count("1/minute", "a")).is_exceeded
    assert not (await rates.count("1/minute", "b")).is_exceeded
    assert (await rates.count("1/minute", "a")).is_exceeded


async def test_the_header_fields_of_a_rate_limit_allowance_follow_the_ratelimit_draft_6() -> None:
    clock = Clock()
    rates = Rates(clock)
    await rates.count("20/minute", "a")
    clock.now += 10.5
    assert (await rates.count("20/minute", "a")).headers == (
        (b"ratelimit-policy", b"20;w=60"),
        (b"ratelimit-limit", b"20"),
        (b"ratelimit-remaining", b"18"),
        (b"ratelimit-reset", b"50"),
    )


async def test_the_rate_limit_header_fields_describe_the_window_with_the_fewest_extractions_left() -> None:
    clock = Clock()
    rates = Rates(clock)
    first = await rates.count("2/second;3/day", "a")
    assert (first.policy, first.limit, first.remaining) == ("2;w=1, 3;w=86400", 2, 1)
    clock.now += 2
    await rates.count("2/second;3/day", "a")
    clock.now += 2
    third = await rates.count("2/second;3/day", "a")
    assert (third.limit, third.remaining, third.reset) == (3, 0, 86396)
    assert (await rates.count("2/second;3/day", "a")).is_exceeded


async def test_a_refused_extraction_is_not_counted_in_any_window() -> None:
    clock = Clock()
    rates = Rates(clock)
    for _ in range(5):
        await rates.count("1/second;3/day", "a")
    clock.now += 1
    assert not (await rates.count("1/second;3/day", "a")).is_exceeded
    clock.now += 1
    assert not (await rates.count("1/second;3/day", "a")).is_exceeded
    clock.now += 1
    assert (await rates.count("1/second;3/day", "a")).is_exceeded


async def test_a_rate_limit_of_zero_refuses_the_first_extraction() -> None:
    found = await Rates(Clock()).count("0/minute", "a")
    assert (found.is_exceeded, found.remaining) == (True, 0)


async def test_concurrent_extractions_never_exceed_the_rate_limit() -> None:
    rates = Rates(Clock())
    found = await asyncio.gather(*(rates.count("5/minute", "a") for _ in range(50)))
    assert sum(not each.is_exceeded for each in found) == 5


async def test_the_number_of_rate_limit_counters_is_bounded() -> None:
    windows = Windows(Clock(), most=100)
    for number in range(1000):
        await windows.count("1/minute", f"2001:db8:0:{number:x}::/64")
        assert len(windows.counters) <= 100
    assert (await windows.count("1/minute", "2001:db8:0:3e7::/64")).is_exceeded
    assert not (await windows.count("1/minute", "2001:db8:0:0::/64")).is_exceeded


async def test_a_rate_limit_counter_takes_less_than_450_bytes() -> None:
    import tracemalloc

    windows = Windows(Clock())
    await windows.count("60/minute", "warm")
    tracemalloc.start()
    try:
        for number in range(MAX_COUNTERS):
            await windows.count("60/minute", f"address 2001:db8:ffff:{number:x}::/64")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / MAX_COUNTERS < 450


@pytest.mark.parametrize("rate", ["60/minute", "1 per 2 hours; 10/day", "10/second,1000/day", "5 PER minutes"])
def test_the_limits_library_parses_the_forms_of_rates_that_the_settings_accept(rate: str) -> None:
    assert parse(rate)
