"""Tests of edge cases of ranges and validators (RFC 9110 §8.8.3, §13.1.5 and §14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import RangeNotSatisfiable
from serverpy.ranges import (
    ByteRange,
    ContentRange,
    body_length,
    is_endless,
    parse_length,
    parse_range,
    resolve_range,
    total_of,
    with_first,
)
from serverpy.validators import dates_differ, etags_differ, same_validator, strong_validator

LARGEST = 2**63 - 1
ENDLESS = "9" * 5000
"""A text with more digits than Python converts to an int."""
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=0-1", ByteRange(0, 1)),
        ("bytes=5-", ByteRange(5, None)),
        ("bytes=-5", ByteRange(None, 5)),
        ("BYTES=1-2", ByteRange(1, 2)),
        ("bytes= 1-2 ", ByteRange(1, 2)),
        ("bytes=,1-2,", ByteRange(1, 2)),
        ("bytes=007-8", ByteRange(7, 8)),
        ("bytes=0-18446744073709551615", ByteRange(0, LARGEST)),
        (f"bytes=-{ENDLESS}", ByteRange(None, LARGEST)),
        (f"bytes={ENDLESS}-", ByteRange(LARGEST, None)),
        (f"bytes=1-{ENDLESS}", ByteRange(1, LARGEST)),
        (f"bytes={'0' * 5000}5-{'0' * 6000}9", ByteRange(5, 9)),
        ("bytes=\t1-2\t,", ByteRange(1, 2)),
        ("bytes=-0", ByteRange(None, 0)),
    ],
)
def test_a_range_header_with_one_range_is_parsed(header: str, expected: ByteRange) -> None:
    assert parse_range(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "items=0-1", "seconds=1-2"),
        *("bytes=0-1,3-4", "bytes=0-1, 5-", "bytes=0-1,-1", "bytes=0-5,3-9", "bytes=0-,5-", "bytes=-1,-2"),
        *("bytes=", "bytes=-", "bytes=,", "bytes=x", "bytes=1", "bytes=1-x", "bytes=0x1-2", "bytes=1 -2"),
        *("bytes =0-1", " bytes=0-1", "bytes\t=0-1", "bytes=0-1\xa0", "bytes=\x850-1", "bytes=+0-1", "bytes:0-1"),
        *("bytes=9-2", "bytes=--5", "bytes=-5--1", "bytes=-1-5", "bytes=1-2-3", "bytes=٣-٤", "bytes=0-1,x"),
    ],
)
def test_an_invalid_or_unsupported_range_header_is_ignored(header: str | None) -> None:
    """If a Range header has an unknown unit, several ranges, or an invalid range, the server sends the whole file."""
    assert parse_range(header) is None


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_every_valid_range_header_is_parsed(one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert parse_range(f"bytes={first}-{last}") == ByteRange(first, last)
    assert parse_range(f"bytes={first}-") == ByteRange(first, None)
    assert parse_range(f"bytes=-{last + 1}") == ByteRange(None, min(last + 1, LARGEST))


@given(st.text(st.sampled_from("bytes=0123456789-, \t"), max_size=40) | st.text(max_size=40))
def test_a_range_header_with_arbitrary_text_is_parsed_as_a_range_or_ignored(text: str) -> None:
    for header in (text, f"bytes={text}"):
        found = parse_range(header)
        if found is not None:
            assert found.first is not None or found.last is not None
            assert found.first is None or found.last is None or found.first <= found.last


# Ranges resolved against the length of a file


@pytest.mark.parametrize(
    ("asked", "total", "expected"),
    [
        (None, 100, (0, 100)),
        (None, 0, (0, 0)),
        (ByteRange(0, None), 100, (0, 100)),
        (ByteRange(0, 0), 100, (0, 1)),
        (ByteRange(0, 99), 100, (0, 100)),
        (ByteRange(0, 100), 100, (0, 100)),
        (ByteRange(99, None), 100, (99, 100)),
        (ByteRange(99, LARGEST), 100, (99, 100)),
        (ByteRange(None, 1), 100, (99, 100)),
        (ByteRange(None, 100), 100, (0, 100)),
        (ByteRange(None, 101), 100, (0, 100)),
        (ByteRange(None, LARGEST), 1, (0, 1)),
        (ByteRange(100, None), 100, None),
        (ByteRange(100, 200), 100, None),
        (ByteRange(LARGEST, LARGEST), 100, None),
        (ByteRange(0, None), 0, None),
        (ByteRange(0, 0), 0, None),
        (ByteRange(None, 5), 0, None),
        (ByteRange(None, 0), 100, None),
        (ByteRange(9, 2), 100, None),
    ],
)
def test_a_range_is_resolved_against_the_length_of_a_file(
    asked: ByteRange | None, total: int, expected: tuple[int, int] | None
) -> None:
    """If `expected` is None, the range selects no byte of the file, and the error that is raised contains the length of
    the file."""
    if expected is not None:
        assert resolve_range(asked, total) == expected
        return
    with pytest.raises(RangeNotSatisfiable) as caught:
        resolve_range(asked, total)
    assert caught.value.size == total


@given(st.integers(0, 60), st.none() | st.integers(0, 60), st.integers(0, 50))
def test_a_resolved_range_selects_the_same_bytes_as_a_python_slice(first: int, last: int | None, total: int) -> None:
    whole = bytes(range(total))
    for asked, expected in (
        (ByteRange(first, last), whole[first : None if last is None else last + 1]),
        (ByteRange(None, first), whole[-first:] if first else b""),
    ):
        try:
            begin, end = resolve_range(asked, total)
        except RangeNotSatisfiable:
            assert not expected
        else:
            assert whole[begin:end] == expected


# Content-Range headers


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-0/1", ContentRange(0, 0, 1)),
        ("bytes 5-99/100", ContentRange(5, 99, 100)),
        ("bytes 5-99/*", ContentRange(5, 99, None)),
        ("BYTES  5-99/100 ", ContentRange(5, 99, 100)),
        ("bytes 0-100/100", ContentRange(0, 100, 100)),
        (f"bytes {LARGEST - 1}-{LARGEST}/*", ContentRange(LARGEST - 1, LARGEST, None)),
        *((header, None) for header in (None, "", "bytes", "bytes */100", "items 0-9/100", "0-9/100")),
        *((header, None) for header in ("bytes 9-2/100", "bytes 0-9", "bytes 0-/100", "bytes -9/100", "bytes 0-9/x")),
        *((header, None) for header in ("bytes=0-9/100", "bytes 0-9/100, bytes 20-29/100", "bytes ٣-٤/9")),
        *(
            (header, None)
            for header in (f"bytes {ENDLESS}-{ENDLESS}/*", f"bytes 0-{ENDLESS}/*", f"bytes 0-9/{ENDLESS}")
        ),
    ],
)
def test_parsing_an_invalid_content_range_returns_none(header: str | None, expected: ContentRange | None) -> None:
    assert ContentRange.parse(header) == expected


@given(st.integers(0, LARGEST), st.integers(0, LARGEST), st.none() | st.integers(0, LARGEST))
def test_a_range_and_a_content_range_do_not_change_if_they_are_formatted_and_parsed_again(
    one: int, other: int, total: int | None
) -> None:
    first, last = sorted((one, other))
    assert ContentRange.parse(str(ContentRange(first, last, total))) == ContentRange(first, last, total)
    for asked in (ByteRange(first, last), ByteRange(first, None), ByteRange(None, max(1, last))):
        assert parse_range(str(asked)) == asked


@given(st.text(st.sampled_from("bytes 0123456789-/*, \t"), max_size=60) | st.text(max_size=40))
def test_parsing_any_text_as_a_content_range_returns_a_valid_one_or_none(text: str) -> None:
    for header in (text, f"bytes {text}"):
        found = ContentRange.parse(header)
        assert found is None or 0 <= found.first <= found.last
        total = total_of(header)
        assert total is None or total >= 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        *(("bytes */100", 100), ("bytes */0", 0), ("bytes 0-9/100", 100), ("bytes 0-9/*", None), ("bytes 0-9", None)),
        *((header, None) for header in (None, "", "bytes */", "bytes */-1", f"bytes */{ENDLESS}")),
    ],
)
def test_parsing_an_invalid_total_length_returns_none(header: str | None, expected: int | None) -> None:
    assert total_of(header) == expected


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        *(("0", 0), ("007", 7), (str(LARGEST), LARGEST)),
        *((digits, None) for digits in (None, "", "-1", "+1", " 1", "1.0", "1e3", "²", "٣", "0x10", ENDLESS)),
    ],
)
def test_parsing_an_invalid_content_length_returns_none(digits: str | None, expected: int | None) -> None:
    assert parse_length(digits) == expected


@pytest.mark.parametrize(
    ("header", "endless"),
    [
        *((f"bytes 0-{size - 2}/{size - 1}", True) for size in (2**53, 2**63, 2**64)),
        *((f"bytes 0-99/{size}", True) for size in (2**53 - 1, 10**19, 10**20 - 1)),
        (f"bytes 000-{2**64 - 2}/{2**64 - 1}", True),
        (f"bytes 1-{2**64 - 2}/{2**64 - 1}", False),
        (f"bytes 0-{2**53 - 3}/{2**53 - 2}", False),
        *((header, False) for header in (None, "", "bytes 0-99/*", "bytes */100", "bytes 0-99/100")),
        *((header, False) for header in (f"bytes 0-{ENDLESS}/{ENDLESS}", f"bytes {2**64 - 1}", f"0-9/{2**64 - 1}")),
    ],
)
def test_a_content_range_with_an_impossible_total_length_counts_as_that_of_an_endless_stream(
    header: str | None, *, endless: bool
) -> None:
    assert is_endless(header) is endless


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        *(("0", 0), ("5", 5), (str(2**53 - 2), 2**53 - 2)),
        *((digits, None) for digits in (None, "", "x", str(2**53 - 1), str(LARGEST), str(2**64 - 1), ENDLESS)),
    ],
)
def test_a_content_length_that_is_too_large_for_any_file_is_ignored(digits: str | None, expected: int | None) -> None:
    assert body_length(digits) == expected


@given(st.integers(1, 60), st.integers(0, 50))
def test_a_suffix_range_and_its_absolute_form_select_the_same_bytes(suffix_bytes: int, total: int) -> None:
    suffix = ByteRange(None, suffix_bytes)
    absolute = with_first(suffix, total)
    assert absolute.first is not None
    if total:
        assert resolve_range(absolute, total) == resolve_range(suffix, total)


# Validators (ETag and Last-Modified)


@pytest.mark.parametrize(
    ("etag", "last_modified", "expected"),
    [
        ('"a"', DATE, '"a"'),
        ('"a"', None, '"a"'),
        ('W/"a"', DATE, DATE),
        ('W/"a"', None, None),
        (None, DATE, DATE),
        ("", DATE, DATE),
        (None, None, None),
        ("a", DATE, DATE),
        ('"a', DATE, DATE),
        ('"', None, None),
        ('""', DATE, '""'),
    ],
)
def test_the_strong_validator_is_a_strong_etag_or_else_the_last_modified_date(
    etag: str | None, last_modified: str | None, expected: str | None
) -> None:
    assert strong_validator(etag, last_modified) == expected


@pytest.mark.parametrize(
    ("if_range", "etag", "last_modified", "holds"),
    [
        ('"a"', '"a"', None, True),
        ('"a"', '"b"', DATE, False),
        ('"a"', 'W/"a"', None, False),
        ('W/"a"', 'W/"a"', None, False),
        ('W/"a"', '"a"', None, False),
        ('"a"', None, DATE, False),
        ('"a', '"a"', None, False),
        (DATE, None, DATE, True),
        (DATE, '"a"', DATE, True),
        (DATE, '"a"', None, False),
        (DATE, None, "Tue, 02 Jan 2024 00:00:00 GMT", False),
        ("a", "a", None, False),
        ("", None, None, False),
    ],
)
def test_if_range_matches_only_the_same_strong_validator(
    if_range: str, etag: str | None, last_modified: str | None, *, holds: bool
) -> None:
    assert same_validator(if_range, etag, last_modified) is holds


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ('"a"', '"b"', True),
        ('"a"', '"A"', True),
        ("a", "b", True),
        ('"a"', '"a"', False),
        ('W/"a"', 'W/"b"', False),
        ('"a"', 'W/"b"', False),
        ('w/"a"', '"b"', False),
        ('"a"', None, False),
        ('"a"', "", False),
        (None, None, False),
    ],
)
def test_two_etags_are_different_only_if_both_are_strong_and_unequal(
    one: str | None, other: str | None, *, differ: bool
) -> None:
    assert etags_differ(one, other) is etags_differ(other, one) is differ


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (DATE, DATE, False),
        (DATE, "Mon, 01 Jan 2024 00:00:01 GMT", True),
        (DATE, "Monday, 01-Jan-24 00:00:00 GMT", False),
        (DATE, "Mon Jan  1 00:00:00 2024", False),
        (DATE, "Mon, 01 Jan 2024 01:00:00 +0100", False),
        (DATE, "Mon, 01 Jan 2024 01:00:00 GMT", True),
        (DATE, "0", True),
        ("0", "1", True),
        (DATE, DATE + " " * 100, True),
        (DATE, "Mon, 99 Jan 99999999999999999999 00:00:00 GMT", True),
        (DATE, None, False),
        ("", DATE, False),
    ],
)
def test_two_dates_are_different_only_if_both_are_valid_and_mean_different_times(
    one: str | None, other: str | None, *, differ: bool
) -> None:
    assert dates_differ(one, other) is dates_differ(other, one) is differ


@given(st.text(max_size=70), st.text(max_size=70))
def test_comparing_two_dates_gives_the_same_result_in_either_order(one: str, other: str) -> None:
    assert dates_differ(one, other) is dates_differ(other, one)
    assert not dates_differ(one, one)
