"""Tests of how the egress proxy parses and rewrites the heads of requests and responses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.net.heads import BadHead, ForbiddenScheme, find_end, parse_request, rewrite_response


def request(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_connect_request_is_parsed_to_its_host_and_port_and_authorization() -> None:
    asked = parse_request(request("CONNECT site.example:443 HTTP/1.1", "Proxy-Authorization: Basic x"))
    assert (asked.host, asked.port, asked.authorization, asked.forward) == ("site.example", 443, b"Basic x", None)


@pytest.mark.parametrize("authority", ["[2606:4700::1]:443", "2606:4700::1:443"])
def test_a_connect_request_may_have_an_ipv6_address_with_or_without_brackets(authority: str) -> None:
    asked = parse_request(request(f"CONNECT {authority} HTTP/1.1"))
    assert (asked.host, asked.port) == ("2606:4700::1", 443)


def test_a_request_in_absolute_form_is_forwarded_in_origin_form() -> None:
    asked = parse_request(
        request(
            "GET http://site.example:81/a?b#c HTTP/1.1",
            "Host: other.example",
            "Proxy-Authorization: Basic x",
            "Proxy-Connection: keep-alive",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Range: bytes=0-",
        )
    )
    assert (asked.host, asked.port) == ("site.example", 81)
    assert asked.forward == request(
        "GET /a?b HTTP/1.1", "Host: site.example:81", "Range: bytes=0-", "Connection: close"
    )


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://h", "/"), ("http://h?q", "/?q"), ("HTTP://h/", "/"), ("http://h/p?q=http://x", "/p?q=http://x")],
)
def test_the_path_of_a_forwarded_request_begins_with_a_slash(target: str, path: str) -> None:
    forward = parse_request(request(f"GET {target} HTTP/1.0")).forward
    assert forward is not None
    assert forward.startswith(f"GET {path} HTTP/1.0\r\nHost: h\r\n".encode())


def test_content_length_is_forwarded_even_if_the_connection_header_names_it() -> None:
    forward = parse_request(
        request("POST http://h/ HTTP/1.1", "Connection: content-length", "Content-Length: 3")
    ).forward
    assert forward is not None
    assert b"Content-Length: 3\r\n" in forward


@pytest.mark.parametrize("target", ["ftp://h/", "https://h/", "file:///etc/passwd", "ws://h/"])
def test_a_url_scheme_other_than_http_is_forbidden_in_absolute_form(target: str) -> None:
    with pytest.raises(ForbiddenScheme):
        parse_request(request(f"GET {target} HTTP/1.1"))


@pytest.mark.parametrize(
    "head",
    [
        request("GET / HTTP/1.1"),
        request("GET http://user@h/ HTTP/1.1"),
        request("GET http:/// HTTP/1.1"),
        request("GET http://h:0/ HTTP/1.1"),
        request("GET http://h:65536/ HTTP/1.1"),
        request("GET http://h/ x HTTP/1.1"),
        request("GET  http://h/ HTTP/1.1"),
        request("GET http://h/ HTTP/2.0"),
        request("CONNECT site.example HTTP/1.1"),
        request("CONNECT http://h:80 HTTP/1.1"),
        request("GET http://h/ HTTP/1.1", "a : b"),
        request("GET http://h/ HTTP/1.1", "a: b", " folded"),
        request("GET http://h/ HTTP/1.1", "a: b\nc: d"),
        request("GET http://h/ HTTP/1.1", "a: b\rc: d"),
        request("GET http://h/ HTTP/1.1", "a: b\0"),
        request("POST http://h/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
        request("POST http://h/ HTTP/1.1", "Content-Length: 1", "content-length: 2"),
    ],
)
def test_an_ambiguous_or_malformed_request_is_refused(head: bytes) -> None:
    with pytest.raises(BadHead):
        parse_request(head)


@given(st.binary(max_size=200))
def test_any_bytes_are_either_parsed_as_one_request_or_refused(data: bytes) -> None:
    try:
        asked = parse_request(b"GET http://h/" + data + b"\r\n\r\n")
    except BadHead:
        return
    assert asked.forward is not None
    assert asked.forward.count(b"\r\n\r\n") == 1
    assert asked.forward.endswith(b"\r\n\r\n")


def test_a_forwarded_response_has_neither_hop_by_hop_headers_nor_serverpy_headers() -> None:
    status, head = rewrite_response(
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n"
        b"Transfer-Encoding: chunked\r\nX-ServerPY-Refused: target_forbidden\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    assert status == 200
    assert head == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close\r\n\r\n"
    )


def test_an_interim_response_is_forwarded_unchanged() -> None:
    assert rewrite_response(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") == (
        103,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    )


def test_a_response_head_with_malformed_lines_that_browsers_accept_is_repaired() -> None:
    _, head = rewrite_response(b"HTTP/1.0 404\nX-Long: a\n  b\nno colon\nX-Byte: \xe4\n\n")
    assert head == b"HTTP/1.0 404\r\nX-Long: a b\r\nX-Byte: \xe4\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("line", [b"ICY OK", b"HTTP/4 200", b"", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 20"])
def test_an_invalid_or_unsupported_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadHead):
        rewrite_response(line + b"\r\n\r\n")


@given(st.binary(max_size=200))
def test_rewriting_a_response_head_returns_exactly_one_head(data: bytes) -> None:
    raw = bytearray(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n")
    end = find_end(raw, 0)
    assert end is not None
    _, head = rewrite_response(bytes(raw[:end]))
    assert find_end(bytearray(head), 0) == len(head)


@given(st.binary(max_size=40), st.sampled_from([b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"]), st.integers(1, 7))
def test_the_end_of_a_head_is_found_wherever_the_head_is_split_between_two_reads(
    data: bytes, end: bytes, step: int
) -> None:
    whole = data.replace(b"\n", b".") + end + b"body"
    collected = bytearray()
    found = None
    while found is None:
        searched = len(collected)
        collected += whole[searched : searched + step]
        found = find_end(collected, searched)
    assert whole[found:] == b"body"


@pytest.mark.parametrize(
    ("values", "left"),
    [
        (["gzip"], [b"gzip"]),
        (["GZIP"], [b"gzip"]),
        (['"gzip"'], [b"gzip"]),
        (["x-gzip", "br"], [b"gzip, br"]),
        (["gzip, aws-chunked"], [b"gzip"]),
        (["aws-chunked"], []),
        (["identity", "utf-8"], []),
        (["zstd"], [b"zstd"]),
    ],
)
def test_a_response_head_names_only_content_codings_in_content_encoding(values: list[str], left: list[bytes]) -> None:
    fields = "".join(f"Content-Encoding: {value}\r\n" for value in values)
    _, head = rewrite_response(f'HTTP/1.1 200 OK\r\nETag: "1"\r\n{fields}\r\n'.encode())
    assert re.findall(rb"Content-Encoding: (.*)\r\n", head) == left
    assert b'ETag: "1"' in head


def test_a_300_with_a_location_becomes_a_redirect_that_every_client_follows() -> None:
    status, head = rewrite_response(b"HTTP/1.1 300 Multiple Choices\r\nLocation: /a\r\nContent-Length: 9\r\n\r\n")
    assert status == 302
    assert head.startswith(b"HTTP/1.1 302 Multiple Choices\r\nLocation: /a\r\nContent-Length: 0\r\n")
    assert rewrite_response(b"HTTP/1.1 300 Multiple Choices\r\n\r\n")[0] == 300
