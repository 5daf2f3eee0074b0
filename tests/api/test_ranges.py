"""The Range header, read without knowing the length: RFC 9110 §14.1.2 and §14.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import RangeNotSatisfiable
from serverpy.ranges import ByteRange, parse_range

LARGEST = 2**63 - 1


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
        (f"bytes=-{'9' * 500}", ByteRange(None, LARGEST)),
    ],
)
def test_one_range_is_read(header: str, expected: ByteRange) -> None:
    assert parse_range(header) == expected


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "items=0-1", "seconds=1-2", "bytes=0-1,3-4", "bytes=0-1, 5-", "bytes=0-1,-1"]
)
def test_what_may_be_ignored_is_ignored(header: str | None) -> None:
    """Another unit, several ranges beside each other: the answer is the whole."""
    assert parse_range(header) is None


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=", "bytes=-", "bytes=,", "bytes=x", "bytes=1", "bytes=1-x", "bytes=0x1-2", "bytes=1 -2"),
        *("bytes=9-2", "bytes=--5", "bytes=-5--1", "bytes=-1-5", "bytes=-0", "bytes=1-2-3", "bytes=٣-٤"),
        *("bytes=0-5,3-9", "bytes=0-,5-", "bytes=0-9,5-", "bytes=-1,-2", "bytes=3-9,0-5", "bytes=0-1,x"),
    ],
)
def test_what_is_no_range_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header)


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_every_range_is_read_back(one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert parse_range(f"bytes={first}-{last}") == ByteRange(first, last)
    assert parse_range(f"bytes={first}-") == ByteRange(first, None)
    assert parse_range(f"bytes=-{last + 1}") == ByteRange(None, min(last + 1, LARGEST))


@given(st.text(st.sampled_from("bytes=0123456789-, \t"), max_size=40) | st.text(max_size=40))
def test_any_text_is_a_range_or_ignored_or_refused(text: str) -> None:
    for header in (text, f"bytes={text}"):
        try:
            found = parse_range(header)
        except RangeNotSatisfiable:
            continue
        if found is not None:
            assert found.first is not None or found.last
            assert found.first is None or found.last is None or found.first <= found.last


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=5))
def test_of_several_ranges_only_those_that_overlap_are_refused(pairs: list[tuple[int, int]]) -> None:
    ranges = [(min(pair), max(pair)) for pair in pairs]
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    covered = [number for first, last in ranges for number in range(first, last + 1)]
    if len(covered) == len(set(covered)):
        assert parse_range(header) is None
    else:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header)
