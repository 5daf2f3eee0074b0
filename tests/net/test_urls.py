"""Tests of how a URL is normalised to the form in which requests contain it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import UpstreamFailed
from serverpy.net.urls import resolve, split, without_user_info


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
        # Dot segments in the path (RFC 3986 §5.2.4 and §5.4.2)
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
def test_the_request_target_is_normalised_and_percent_encoded(path: str, target: str) -> None:
    assert split(f"http://host.example{path}")[1] == target


@pytest.mark.parametrize("url", ["\t http://host.example/a \n", "HTTP://HOST.example:80/a", "http://host.example:/a"])
def test_spaces_around_a_url_and_equivalent_spellings_give_the_same_origin_and_target(url: str) -> None:
    origin, target = split(url)
    assert (origin.scheme, origin.host, origin.port, origin.host_header) == ("http", "host.example", 80, "host.example")
    assert target == "/a"


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "http:///a", "http://[::1/", "http://host:x/", "http://u@host/", "http://host/\ud800", "//h/"],
)
def test_requesting_an_invalid_url_raises_upstream_failed(url: str) -> None:
    with pytest.raises(UpstreamFailed):
        split(url)


@given(st.text(max_size=80))
def test_a_normalised_request_target_has_only_allowed_characters_and_does_not_change_if_it_is_normalised_again(
    text: str,
) -> None:
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


BASE = "https://host.example/a/list.m3u8?t=1//2"
DOUBLE = "https://host.example//a//b/list.m3u8"


@pytest.mark.parametrize(
    ("base", "reference", "url"),
    [
        (BASE, "1.ts", "https://host.example/a/1.ts"),
        (BASE, "b//1.ts?x=//y#z", "https://host.example/a/b//1.ts?x=//y#z"),
        (BASE, "b//../1.ts", "https://host.example/a/b/1.ts"),
        (BASE, "/b//1.ts", "https://host.example/b//1.ts"),
        (BASE, "//cdn.example//1.ts", "https://cdn.example//1.ts"),
        (BASE, "http://cdn.example/a//1.ts", "http://cdn.example/a//1.ts"),
        (BASE, "?n=1", "https://host.example/a/list.m3u8?n=1"),
        (BASE, "", BASE),
        (DOUBLE, "1.ts", "https://host.example//a//b/1.ts"),
        (DOUBLE, "../1.ts?x", "https://host.example//a//1.ts?x"),
        (DOUBLE, "../../1.ts", "https://host.example//a/1.ts"),
        (DOUBLE, "c;v=1/./1.ts", "https://host.example//a//b/c;v=1/1.ts"),
        (DOUBLE, "?n=1", DOUBLE + "?n=1"),
        (DOUBLE, "/1.ts", "https://host.example/1.ts"),
        ("https://proxy.example/https://host.example/a/list.m3u8", "1.ts",
         "https://proxy.example/https://host.example/a/1.ts"),
        ("https://host.example", "a//1.ts", "https://host.example/a//1.ts"),
        (BASE, "b\\1.ts", "https://host.example/a/b/1.ts"),
        (BASE, "b\\\\1.ts?p=c\\d", "https://host.example/a/b//1.ts?p=c\\d"),
        (BASE, "https:\\\\cdn.example\\1.ts", "https://cdn.example/1.ts"),
    ],
)  # fmt: skip
def test_a_reference_is_resolved_as_browsers_resolve_it(base: str, reference: str, url: str) -> None:
    assert resolve(base, reference) == url


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
def test_credentials_in_a_url_become_basic_authorization(url: str, plain: str, credentials: str | None) -> None:
    assert without_user_info(url) == (plain, credentials)
