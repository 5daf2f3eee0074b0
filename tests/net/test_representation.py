"""Tests of the extent (first byte, end and total length) that a response head states, and of which response heads
belong to the same file: RFC 9110 §8.8, §14.4 and §15.3.7."""

from __future__ import annotations

import pytest

from serverpy.net.http1 import MAX_VALIDATOR, Headers
from serverpy.net.representation import MAX_SERVERS, Mismatch, Part, Representation, Unusable, may_be_range, part_of
from serverpy.net.urls import Origin
from serverpy.ranges import ByteRange

TOTAL = 1000
ONE, OTHER = Origin("http", "one.example", 80), Origin("https", "other.example", 443)
DATE, LATER = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:01 GMT"


def headers(content_range: str | None = None, length: object = None, **more: str) -> Headers:
    fields = {"Content-Range": content_range, "Content-Length": None if length is None else str(length)}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return Headers((name, value) for name, value in fields.items() if value is not None)


WHOLE, UNKNOWN = Part(0, TOTAL, TOTAL, is_range=False), Part(0, None, None, is_range=False)


@pytest.mark.parametrize(
    ("status", "content_range", "length", "expected"),
    [
        (206, "bytes 0-999/1000", 1000, Part(0, 1000, 1000, is_range=True)),
        (206, "bytes 100-199/1000", 100, Part(100, 200, 1000, is_range=True)),
        (206, "bytes 100-199/1000", None, Part(100, 200, 1000, is_range=True)),
        (206, "bytes 100-199/1000", 60, Part(100, 200, 1000, is_range=True)),
        (206, "bytes 100-199/*", 100, Part(100, 200, None, is_range=True)),
        (206, "bytes 0-99/*", None, Part(0, 100, None, is_range=True)),
        (206, "bytes 0-1000/1000", 1000, Part(0, 1000, 1000, is_range=True)),
        (200, None, 1000, WHOLE),
        (203, None, 1000, WHOLE),
        (200, None, None, UNKNOWN),
        (200, "bytes 0-999/1000", 1000, WHOLE),
        (200, "bytes 0-999/1000", None, WHOLE),
        (200, "bytes 5-9/1000", 1000, WHOLE),
        (200, "bytes */1000", 1000, WHOLE),
        (200, "bytes 100-999/1000", 900, Part(100, 1000, 1000, is_range=True)),
        (203, "bytes 0-99/1000", 100, Part(0, 100, 1000, is_range=True)),
        (206, f"bytes 0-{2**64 - 2}/{2**64 - 1}", None, UNKNOWN),
        (206, f"bytes 0-{2**64 - 2}/{2**64 - 1}", 2**64 - 1, UNKNOWN),
        (206, f"bytes 0-{2**63 - 2}/{2**63 - 1}", 2**63 - 1, UNKNOWN),
        (206, f"bytes 0-{2**53 - 2}/{2**53 - 1}", None, UNKNOWN),
        (200, None, 2**64 - 1, UNKNOWN),
        (200, f"bytes 0-{2**63 - 2}/{2**63 - 1}", 1000, WHOLE),
    ],
)
def test_the_extent_of_a_response_is_the_range_that_its_head_states(
    status: int, content_range: str | None, length: int | None, expected: Part
) -> None:
    assert part_of(status, headers(content_range, length)) == expected


@pytest.mark.parametrize(
    ("status", "content_range", "length", "total"),
    [
        (206, None, 100, None),
        (206, "bytes=0-99/1000", 100, 1000),
        (206, "0-99/1000", 100, 1000),
        (206, "bytes: 0-99/1000", 100, 1000),
        (206, "bytes /-1", 100, None),
        (206, "bytes */1000", 100, 1000),
        (206, "bytes 99-0/1000", 100, 1000),
        (206, "bytes 1000-1099/1000", 100, 1000),
        (206, "bytes 0-98/1000", 100, 1000),
        (206, "bytes 0-98/*", 100, None),
        (206, "bytes 99-0/*", 100, None),
        (206, f"bytes 100-{2**64 - 2}/{2**64 - 1}", 100, None),
        (206, f"bytes 100-{2**63 - 2}/{2**63 - 1}", 100, 2**63 - 1),
        (206, f"bytes 0-{2**64 - 2}/{2**64 - 1}", 100, None),
        (206, f"bytes 0-{'9' * 5000}/{'9' * 5000}", None, None),
        (200, "bytes 100-199/1000", None, 1000),
        (200, "bytes 100-199/1000", 99, 1000),
        (200, "bytes 100-199/*", 100, None),
        (203, "bytes 0-99/*", None, None),
        (200, "bytes=100-199/1000", 100, 1000),
        (200, "100-199/1000", None, 1000),
    ],
)
def test_a_response_whose_head_states_no_consistent_extent_is_unusable(
    status: int, content_range: str | None, length: int | None, total: int | None
) -> None:
    with pytest.raises(Unusable) as caught:
        part_of(status, headers(content_range, length))
    assert caught.value.total == total


@pytest.mark.parametrize(
    ("length", "sent", "total", "expected"),
    [
        (100, ByteRange(0, 99), None, True),
        (100, ByteRange(900, 999), None, True),
        (100, ByteRange(900, 999), TOTAL, True),
        (100, ByteRange(900, None), TOTAL, True),
        (100, ByteRange(None, 100), None, True),
        (100, ByteRange(0, 99), 100, False),
        (TOTAL, ByteRange(0, 99), None, False),
        (TOTAL, ByteRange(900, None), TOTAL, False),
        (100, ByteRange(900, None), None, False),
        (TOTAL, ByteRange(0, None), TOTAL, False),
        (90, ByteRange(0, None), TOTAL, False),
        (100, None, None, False),
        (None, ByteRange(0, 99), TOTAL, False),
    ],
)
def test_a_response_that_is_as_long_as_the_requested_range_may_be_the_range(
    length: int | None, sent: ByteRange | None, total: int | None, *, expected: bool
) -> None:
    assert may_be_range(Part(0, length, length, is_range=False), sent, total) is expected


def test_a_multipart_response_or_one_with_repeated_content_range_is_unusable() -> None:
    with pytest.raises(Unusable):
        part_of(206, headers("bytes 0-99/1000", Content_Type="Multipart/ByteRanges; boundary=x"))
    two = [("Content-Range", "bytes 0-99/1000"), ("Content-Range", "bytes 100-199/1000")]
    with pytest.raises(Unusable):
        part_of(206, Headers(two))
    assert part_of(206, Headers([two[0], two[0]])) == Part(0, 100, 1000, is_range=True)


def test_the_content_length_of_a_chunked_response_is_ignored() -> None:
    assert part_of(200, headers(None, 5, Transfer_Encoding="chunked")) == UNKNOWN


# Validators


Told = tuple[int | None, str | None, str | None, Origin]
"""What a response states about its file: the total length, ETag and Last-Modified, and the origin of the server."""


def learn(known: Representation, told: Told) -> None:
    total, etag, modified, origin = told
    fields = (("ETag", etag), ("Last-Modified", modified))
    known.learn(total, Headers((name, value) for name, value in fields if value is not None), origin)


@pytest.mark.parametrize(
    "told",
    [
        [(5, '"a"', DATE, ONE), (5, '"a"', DATE, ONE)],
        [(5, '"a"', DATE, ONE), (None, None, None, ONE)],
        [(None, None, None, ONE), (5, '"a"', DATE, ONE)],
        [(5, '"a"', DATE, ONE), (5, '"b"', DATE, OTHER)],
        [(5, 'W/"a"', DATE, ONE), (5, 'W/"b"', DATE, ONE)],
        [(5, 'W/"a"', DATE, ONE), (5, 'W/"b"', DATE, ONE), (5, 'W/"c"', DATE, ONE)],
        [(5, '"a"', DATE, ONE), (5, 'W/"b"', DATE, ONE), (5, '"a"', DATE, ONE)],
        [(5, '"a"', DATE, ONE), (5, 'W/"a"', DATE, ONE)],
        [(5, 'W/"a"', None, ONE), (5, '"a"', None, ONE), (5, 'w/"a"', None, ONE)],
        [(5, 'W/"a"', None, ONE), (5, 'W/"b"', None, OTHER)],
        [(5, 'W/"a"', None, ONE), (5, None, None, ONE), (5, 'W/"a"', None, ONE)],
        [(5, None, DATE, ONE), (5, None, "Monday, 01-Jan-24 00:00:00 GMT", OTHER)],
        [(5, None, DATE, ONE), (5, None, "Mon Jan  1 00:00:00 2024", ONE)],
        [(5, "x" * (MAX_VALIDATOR + 1), DATE, ONE), (5, '"b"', DATE, ONE)],
    ],
)
def test_responses_with_equal_lengths_and_validators_belong_to_one_file(told: list[Told]) -> None:
    known = Representation()
    for each in told:
        learn(known, each)
    assert known.total == 5


@pytest.mark.parametrize(
    ("told", "by_etag"),
    [
        ([(5, '"a"', DATE, ONE), (5, '"b"', DATE, ONE)], True),
        ([(5, "a", None, ONE), (5, "b", None, ONE)], True),
        ([(5, '"a"', None, ONE), (5, '"b"', None, OTHER), (5, '"c"', None, ONE)], True),
        ([(5, '"a"', None, ONE), (5, None, None, ONE), (5, '"b"', None, ONE)], True),
        ([(5, '"a"', DATE, ONE), (5, 'W/"b"', DATE, ONE), (5, '"b"', DATE, ONE)], True),
        ([(5, 'W/"a"', None, ONE), (5, 'W/"b"', None, ONE)], True),
        ([(5, 'W/"a"', DATE, ONE), (5, 'W/"b"', None, ONE)], True),
        ([(5, 'W/"a"', None, ONE), (5, 'W/"b"', DATE, ONE)], True),
        ([(5, 'W/"a"', DATE, ONE), (None, 'W/"b"', DATE, ONE)], True),
        ([(5, '"a"', None, ONE), (5, 'W/"b"', None, ONE)], True),
        ([(5, 'W/"a"', None, ONE), (5, '"b"', None, ONE)], True),
        ([(5, 'W/"a"', None, ONE), (5, 'W/"b"', None, OTHER), (5, 'W/"c"', None, ONE)], True),
        ([(5, 'W/"a"', DATE, ONE), (5, 'W/"b"', LATER, ONE)], False),
        ([(5, '"a"', DATE, ONE), (6, '"a"', DATE, ONE)], False),
        ([(5, '"a"', DATE, ONE), (6, '"b"', DATE, OTHER)], False),
        ([(5, '"a"', DATE, ONE), (5, '"a"', LATER, ONE)], False),
        ([(5, '"a"', DATE, ONE), (5, '"a"', LATER, OTHER)], False),
        ([(None, None, None, ONE), (5, None, DATE, ONE), (5, None, LATER, ONE)], False),
        ([(5, None, "yesterday", ONE), (5, None, "today", ONE)], False),
        ([(5, None, DATE, ONE), (5, None, DATE * 10, ONE)], False),
    ],
)
def test_responses_with_different_lengths_or_validators_belong_to_different_files(
    told: list[Told], *, by_etag: bool
) -> None:
    known = Representation()
    for each in told[:-1]:
        learn(known, each)
    with pytest.raises(Mismatch) as caught:
        learn(known, told[-1])
    assert caught.value.by_etag is by_etag


@pytest.mark.parametrize("told", [(6, None, None, OTHER), (5, None, LATER, ONE)])
def test_after_a_new_extraction_the_total_length_and_last_modified_are_compared_but_not_the_etag(told: Told) -> None:
    known = Representation()
    learn(known, (5, '"a"', DATE, ONE))
    known.forget_etags()
    learn(known, (5, '"b"', DATE, ONE))
    with pytest.raises(Mismatch):
        learn(known, told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(5, '"a"', DATE, ONE)], '"a"'),
        ([(5, 'W/"a"', DATE, ONE)], DATE),
        ([(5, "a", DATE, ONE)], DATE),
        ([(5, None, DATE, ONE)], DATE),
        ([(5, 'W/"a"', None, ONE)], None),
        ([(5, None, None, ONE)], None),
        ([(5, '"a"', DATE, ONE), (5, None, None, ONE)], '"a"'),
        ([(5, '"a"', DATE, ONE), (5, '"b"', DATE, OTHER)], '"b"'),
    ],
)
def test_if_range_contains_the_strong_etag_of_the_last_server_or_else_the_last_modified_date(
    told: list[Told], expected: str | None
) -> None:
    known = Representation()
    for each in told:
        learn(known, each)
    assert known.if_range == expected


def test_etags_are_remembered_for_a_limited_number_of_servers() -> None:
    known = Representation()
    origins = [Origin("http", f"{number}.example", 80) for number in range(MAX_SERVERS + 5)]
    for origin in origins:
        learn(known, (5, '"a"', None, origin))
    for origin in origins[:MAX_SERVERS]:
        with pytest.raises(Mismatch):
            learn(known, (5, '"b"', None, origin))
    learn(known, (5, '"b"', None, origins[-1]))
