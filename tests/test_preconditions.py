"""Tests of edge cases of preconditions (RFC 9110 §13.1 and §13.2.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.preconditions import Outcome, Preconditions, conditional_fields, evaluate

ETAG = '"a,b"'
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:19 GMT", "Wed, 15 Nov 2023 00:00:00 GMT"
PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.FAILED


@pytest.mark.parametrize(
    ("field", "etag", "expected"),
    [
        (ETAG, ETAG, NOT_MODIFIED),
        ("*", ETAG, NOT_MODIFIED),
        (" * ", None, NOT_MODIFIED),
        (f'"x", W/"y" ,{ETAG}', ETAG, NOT_MODIFIED),
        (f",, {ETAG},", ETAG, NOT_MODIFIED),
        (f"W/{ETAG}", ETAG, NOT_MODIFIED),
        (ETAG, f"W/{ETAG}", NOT_MODIFIED),
        ("unquoted", "unquoted", NOT_MODIFIED),
        ('""', '""', NOT_MODIFIED),
        ('"ä"', '"ä"', NOT_MODIFIED),
        ('"x"', ETAG, PROCEED),
        ('"a", "b"', ETAG, PROCEED),
        ('"a', ETAG, PROCEED),
        ("w/" + ETAG, ETAG, PROCEED),
        (f"*, {ETAG}", ETAG, PROCEED),
        (f"nonsense {ETAG}", ETAG, PROCEED),
        (ETAG, None, PROCEED),
        ("", ETAG, PROCEED),
    ],
)
def test_if_none_match_compares_etags_weakly(field: str, etag: str | None, expected: Outcome) -> None:
    assert evaluate(Preconditions(if_none_match=field), etag, None) is expected


@pytest.mark.parametrize(
    ("field", "etag", "expected"),
    [
        (ETAG, ETAG, PROCEED),
        ("*", ETAG, PROCEED),
        ("*", None, PROCEED),
        (f'"x", {ETAG}', ETAG, PROCEED),
        (f"W/{ETAG}", ETAG, FAILED),
        (ETAG, f"W/{ETAG}", FAILED),
        (f"W/{ETAG}", f"W/{ETAG}", FAILED),
        ('"x"', ETAG, FAILED),
        ("nonsense", ETAG, FAILED),
        ("", ETAG, FAILED),
        (ETAG, None, FAILED),
    ],
)
def test_if_match_compares_etags_strongly(field: str, etag: str | None, expected: Outcome) -> None:
    assert evaluate(Preconditions(if_match=field), etag, None) is expected


@pytest.mark.parametrize(
    ("date", "modified", "since", "unmodified"),
    [
        (DATE, DATE, NOT_MODIFIED, PROCEED),
        (AFTER, DATE, NOT_MODIFIED, PROCEED),
        (BEFORE, DATE, PROCEED, FAILED),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", DATE, NOT_MODIFIED, PROCEED),
        ("Tue Nov 14 22:13:19 2023", DATE, PROCEED, FAILED),
        ("Wed Nov  1 22:13:19 2023", DATE, PROCEED, FAILED),
        *((date, DATE, PROCEED, PROCEED) for date in ("", "yesterday", "1", "2023-11-14T22:13:20Z", f"{DATE}, {DATE}")),
        ("Tue, 14 Nov 2023 22:13:20 +0100", DATE, PROCEED, PROCEED),
        ("Tue, 99 Nov 2023 22:13:20 GMT", DATE, PROCEED, PROCEED),
        (DATE, None, PROCEED, PROCEED),
        (DATE, "nonsense", PROCEED, PROCEED),
    ],
)
def test_dates_in_different_formats_are_compared_as_times(
    date: str, modified: str | None, since: Outcome, unmodified: Outcome
) -> None:
    """A precondition is ignored if its date is invalid or the media has no Last-Modified date (RFC 9110 §13.1.3,
    §13.1.4)."""
    assert evaluate(Preconditions(if_modified_since=date), None, modified) is since
    assert evaluate(Preconditions(if_unmodified_since=date), None, modified) is unmodified


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Preconditions(), PROCEED),
        (Preconditions(if_match=ETAG, if_unmodified_since=BEFORE), PROCEED),
        (Preconditions(if_match='"x"', if_unmodified_since=AFTER), FAILED),
        (Preconditions(if_match=ETAG, if_none_match=ETAG), NOT_MODIFIED),
        (Preconditions(if_match='"x"', if_none_match=ETAG), FAILED),
        (Preconditions(if_unmodified_since=BEFORE, if_none_match=ETAG), FAILED),
        (Preconditions(if_unmodified_since=AFTER, if_modified_since=AFTER), NOT_MODIFIED),
        (Preconditions(if_none_match='"x"', if_modified_since=AFTER), PROCEED),
        (Preconditions(if_none_match=ETAG, if_modified_since=BEFORE), NOT_MODIFIED),
    ],
)
def test_preconditions_are_evaluated_in_the_order_of_rfc_9110(asked: Preconditions, expected: Outcome) -> None:
    assert evaluate(asked, ETAG, DATE) is expected


def test_repeated_precondition_headers_are_joined_to_one_list() -> None:
    headers = [(b"if-match", b'"a"'), (b"range", b"x"), (b"if-match", b'"b"'), (b"if-range", b'"\xe4"')]
    assert conditional_fields(headers) == {"if_match": '"a", "b"', "if_range": '"ä"'}


@given(st.text(st.sampled_from('"W/*, \tab'), max_size=60), st.sampled_from([None, ETAG, '"a"', 'W/"b"', ""]))
def test_a_precondition_with_any_text_is_evaluated_without_an_error(field: str, etag: str | None) -> None:
    assert evaluate(Preconditions(if_match=field), etag, None) in (PROCEED, FAILED)
    assert evaluate(Preconditions(if_none_match=field), etag, None) in (PROCEED, NOT_MODIFIED)


def test_a_long_list_of_etags_is_parsed_in_linear_time() -> None:
    field = ", ".join(['"x"'] * 8000)
    assert evaluate(Preconditions(if_none_match=field), ETAG, None) is PROCEED
    assert evaluate(Preconditions(if_none_match="," * 32_000), ETAG, None) is PROCEED
    assert evaluate(Preconditions(if_none_match='"' + "x" * 32_000), ETAG, None) is PROCEED
