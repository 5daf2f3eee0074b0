from __future__ import annotations

import pytest

from serverpy.sample.ranges import Span, asked_span, still_valid


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-", Span(0, 100)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes = 10-19 ", Span(10, 20)),
        ("bytes=90-200", Span(90, 100)),
        ("bytes=-5", Span(95, 100)),
        ("bytes=-500", Span(0, 100)),
        ("bytes=99-", Span(99, 100)),
    ],
)
def test_a_single_range_is_parsed_to_an_interval_of_bytes(header: str, span: Span) -> None:
    assert asked_span(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_end_of_the_file_is_parsed_to_an_empty_interval(header: str) -> None:
    span = asked_span(header, 100)
    assert span is not None
    assert span.length == 0


@pytest.mark.parametrize(
    "header", [None, "", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "items=0-1", "bytes=0-1,3-4"]
)
def test_a_range_header_that_is_missing_or_malformed_or_has_several_ranges_is_ignored(header: str | None) -> None:
    assert asked_span(header, 100) is None


def test_any_range_of_an_empty_file_is_parsed_to_an_empty_interval() -> None:
    assert asked_span("bytes=0-", 0) == Span(0, 0)


def test_if_range_allows_the_range_only_if_its_validator_is_that_of_the_file() -> None:
    date = "Sun, 22 Nov 2026 12:00:00 GMT"
    assert still_valid(None, '"a"', date)
    assert still_valid('"a"', '"a"', date)
    assert still_valid(date, '"a"', date)
    assert not still_valid('"b"', '"a"', date)
    assert not still_valid('W/"a"', '"a"', date)
    assert not still_valid("Sun, 22 Nov 2026 11:59:59 GMT", '"a"', date)
