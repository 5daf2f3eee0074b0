"""Tests of the cache of parsed query strings, and of the cache of checked URLs: requests with the same query share one
result, and an error is raised for every request."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from pydantic import ValidationError

from serverpy.api.query import parse_query
from serverpy.errors import InvalidParameter, InvalidUrl
from serverpy.net.guard import check_url

PAGE = "https://example.com/watch?v=1"
QUERY = f"url={quote(PAGE, safe='')}&height=720".encode()
LONG_PAGE = f"{PAGE}&list={'a' * 4000}"


def test_requests_with_the_same_query_share_parameters_that_cannot_be_changed() -> None:
    parsed = parse_query(QUERY)
    assert (parsed.url, parsed.height) == (PAGE, 720)
    assert parse_query(QUERY) is parsed
    with pytest.raises(ValidationError, match="frozen"):
        parsed.height = 1080


def test_a_different_query_is_parsed_anew() -> None:
    assert parse_query(QUERY.replace(b"720", b"721")).height == 721
    assert parse_query(QUERY).height == 720


def test_a_long_query_and_a_long_url_are_accepted_but_not_cached() -> None:
    query = f"url={quote(LONG_PAGE, safe='')}".encode()
    assert parse_query(query).url == LONG_PAGE
    assert parse_query(query) is not parse_query(query)
    assert check_url(LONG_PAGE) == LONG_PAGE


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (QUERY.replace(b"720", b"0"), InvalidParameter),
        (b"url=ftp%3A%2F%2Fexample.com&height=0", InvalidUrl),
        (QUERY + b"&format=%FF", InvalidParameter),
        (b"url=https%3A%2F%2Fexample.com%2F%FF", InvalidUrl),
    ],
)
def test_an_invalid_query_is_refused_each_time(query: bytes, error: type[Exception]) -> None:
    for _ in range(2):
        with pytest.raises(error):
            parse_query(query)


@pytest.mark.parametrize("url", ["ftp://example.com/", "https://user@example.com/", "https://exa mple.com/"])
def test_an_invalid_url_is_refused_each_time(url: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidUrl):
            check_url(url)


@pytest.mark.parametrize(
    "target", ["source", "mp4", "webm", "mkv", "ts", "m4a", "mp3", "ogg", "opus", "flac", "wav", "slideshow", "images"]
)
def test_each_conversion_target_is_a_valid_parameter(target: str) -> None:
    """A target that this version cannot make is answered with 422 `unsupported_conversion`, not with 400."""
    assert parse_query(f"url={quote(PAGE, safe='')}&to={target}".encode()).to == target
