"""URLs in the form in which requests contain them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import UpstreamFailed
from serverpy.net.urls import split, without_user_info


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/a%20b?q=1", "/a%20b?q=1"),
        ("/a b|c", "/a%20b%7Cc"),
        ("/{id}/^[x]\\`", "/%7Bid%7D/%5E%5Bx%5D%5C%60"),
        ('/"<>', "/%22%3C%3E"),
        ("/?a[]={1}|2^3\\`", "/?a%5B%5D=%7B1%7D%7C2%5E3%5C%60"),
        ("/100%", "/100%25"),
        ("/%zz%41%e4?%", "/%25zz%41%e4?%25"),
        ("/ä?ü=€", "/%C3%A4?%C3%BC=%E2%82%AC"),
        ("/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~"),
        ("/a#b|c", "/a"),
        ("?q", "/?q"),
        # RFC 3986 §5.2.4 and §5.4.2
        ("/../a", "/a"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/../../../g", "/g"),
        ("/a//../b", "/a/b"),
        ("/a/%2e%2E/b/%2e/c/.%2e", "/b/"),
        ("/.g/g./..g/g../...", "/.g/g./..g/g../..."),
        ("/a?x=/../b", "/a?x=/../b"),
        ("//a//b", "//a//b"),
    ],
)
def test_the_request_target_is_normalised_and_contains_no_raw_characters(path: str, target: str) -> None:
    assert split(f"http://host.example{path}")[1] == target


@pytest.mark.parametrize("url", ["\t http://host.example/a \n", "HTTP://HOST.example:80/a", "http://host.example:/a"])
def test_surrounding_spaces_and_equivalent_spellings_do_not_matter(url: str) -> None:
    origin, target = split(url)
    assert (origin.scheme, origin.host, origin.port, origin.host_header) == ("http", "host.example", 80, "host.example")
    assert target == "/a"


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "http:///a", "http://[::1/", "http://host:x/", "http://u@host/", "http://host/\ud800", "//h/"],
)
def test_an_invalid_url_is_an_upstream_failure(url: str) -> None:
    with pytest.raises(UpstreamFailed):
        split(url)


@given(st.text(max_size=80))
def test_any_normalised_target_is_plain_and_normalising_is_idempotent(text: str) -> None:
    try:
        target = split(f"http://host.example/{text}")[1]
    except UpstreamFailed:
        return
    assert target.startswith("/")
    assert all("!" <= character <= "~" for character in target)
    assert not {*'"<>[]\\^`{|}#'} & {*target}
    assert split(f"http://host.example{target}")[1] == target
    segments = target.partition("?")[0].lower().replace("%2e", ".").split("/")
    assert not {".", ".."} & {*segments}


@pytest.mark.parametrize(
    ("url", "plain", "credentials"),
    [
        ("http://host/a@b", "http://host/a@b", None),
        ("http://user:pass@host:81/a?b@c", "http://host:81/a?b@c", "Basic dXNlcjpwYXNz"),
        ("https://user@host/", "https://host/", "Basic dXNlcjo="),
        ("http://a%40b:c%3Ad@host/", "http://host/", "Basic YUBiOmM6ZA=="),
        ("http://u:p@x@host/", "http://host/", "Basic dTpwQHg="),
        ("http://:@host/", "http://host/", "Basic Og=="),
    ],
)
def test_a_user_name_becomes_basic_authorization(url: str, plain: str, credentials: str | None) -> None:
    assert without_user_info(url) == (plain, credentials)
