"""Tests of the Host header of a request (RFC 9112 §3.2): a missing, repeated or malformed Host is answered with 400, an
unknown host with 421."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serverpy import Settings, create_app
from serverpy.api.hosts import host_fault, host_of, is_served
from tests.server import Server
from tests.wire import Answer


@pytest.mark.parametrize(
    ("field", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("example.com:8000", "example.com"),
        ("example.com:", "example.com"),
        ("127.0.0.1:65535", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
        ("a_b-c~d.e%20f", "a_b-c~d.e%20f"),
        *((field, None) for field in ("", ".", ":80", "a b", "a/b", "user@a", "a:b", "a:80:80", "a:65536", "a:999999")),
        *((field, None) for field in ("http://a", "::1", "[::1", "[::1]x", "[::g]", "[1.2.3.4]", "[fe80::1%25eth0]")),
        *((field, None) for field in ("ä.example", "a%zz", "a\\b", 'a"', "a\x7f", "<a>", "a?b", "a#b", "[]", "a:-1")),
    ],
)
def test_the_host_header_parser_returns_the_host_of_a_valid_header_and_none_for_a_malformed_one(
    field: str, host: str | None
) -> None:
    assert host_of(field.encode("latin-1")) == host


@pytest.mark.parametrize(
    ("host", "served"),
    [
        *((host, True) for host in ("127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]", "localhost", "media.example")),
        *((host, False) for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil")),
        *((host, False) for host in ("sub.media.example", "127.1", "0x7f.1", "2130706433", "127.0.0.01", "256.0.0.1")),
    ],
)
def test_the_host_check_accepts_ip_addresses_and_localhost_and_allowed_hosts(host: str, served: bool) -> None:
    assert is_served(host, {"media.example"}) is served


def test_a_request_without_host_is_refused_except_in_http_1_0() -> None:
    assert host_fault([], "1.0") is None
    assert host_fault([], "1.1") is not None
    for version in ("1.0", "1.1"):
        assert host_fault([b"a", b"a"], version) is not None
        assert host_fault([b"a b"], version) is not None
        assert host_fault([b"a"], version) is None


# Requests to the real server


def ask(server: Server, *fields: str, target: str = "/ready", version: str = "1.1") -> Answer:
    lines = [f"GET {target} HTTP/{version}", *fields]
    with server.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")) as exchange:
        return exchange.rest()


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("X-Host: 127.0.0.1",),
        ("Host: 127.0.0.1", "Host: 127.0.0.1"),
        ("Host: 127.0.0.1", "host: evil.example"),
        *((f"Host: {host}",) for host in ("", "a b", "a/b", "user@127.0.0.1", "[::1", "127.0.0.1:x", "http://a", "ä")),
    ],
)
@pytest.mark.parametrize("target", ["/ready", "/stream?url=x", "/nowhere"])
def test_a_request_with_a_missing_or_repeated_or_malformed_host_is_answered_with_400(
    server: Server, fields: tuple[str, ...], target: str
) -> None:
    answer = ask(server, *fields, target=target)
    assert (answer.status, answer.code, answer.complete) == (400, "bad_request", True)
    assert answer.headers["cross-origin-resource-policy"] == "same-site"
    assert "Host" in answer.json()["detail"]
    assert (answer.headers["connection"], answer.headers["cache-control"]) == ("close", "no-store")
    assert "date" in answer.headers


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        (("Host: evil.example",), "/ready"),
        (("Host: evil.example:8000",), "/health"),
        (("Host: localhost.evil.example",), "/docs"),
        (("Host: 127.0.0.1.evil.example",), "/stream?url=x"),
        (("Host: evil.example",), "/nowhere"),
        # The host of an absolute request target takes precedence over the Host header (RFC 9112 §3.2.2).
        (("Host: 127.0.0.1",), "http://evil.example/ready"),
        (("Host: localhost",), "HTTPS://evil.example:443?x"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_for_an_unknown_host_is_refused(
    server: Server, fields: tuple[str, ...], target: str, version: str
) -> None:
    answer = ask(server, *fields, target=target, version=version)
    assert (answer.status, answer.code) == (421, "host_unknown")
    assert "ALLOWED_HOSTS" in answer.json()["detail"]
    assert "evil" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "target", "version"),
    [
        *(((f"Host: {host}",), "/ready", "1.1") for host in ("localhost", "LOCALHOST:1", "localhost.", "192.0.2.7:80")),
        (("Host: [2001:db8::1]:8000",), "/ready", "1.1"),
        (("Host: evil.example",), "http://127.0.0.1:8000/ready", "1.1"),
        ((), "/ready", "1.0"),
        (("Host: 127.0.0.1",), "/ready", "1.0"),
    ],
)
def test_a_request_whose_host_is_an_ip_address_or_localhost_is_served(
    server: Server, fields: tuple[str, ...], target: str, version: str
) -> None:
    assert ask(server, *fields, target=target, version=version).status == 200


def test_a_second_request_with_a_bad_host_on_the_same_connection_does_not_change_the_first_response(
    server: Server,
) -> None:
    first = f"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    with server.send(f"{first}GET /ready HTTP/1.1\r\n\r\n".encode()) as exchange:
        exchange.read(1 << 20)
    with server.send(first.encode()) as exchange:
        assert exchange.rest().status == 200


# Requests to the application, without a server


async def status(host: str, *, checks_host: bool, **settings: Any) -> int:
    """Return the status of the response for an unknown path: 404 if the host is accepted, 421 otherwise."""
    app = create_app(Settings(**settings), checks_host=checks_host)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        answer: int = (await client.get("/nowhere")).status_code
        return answer


@pytest.mark.parametrize(
    ("settings", "served", "refused"),
    [
        ({}, ["127.0.0.1", "localhost", "[::1]:8000"], ["evil.example"]),
        ({"allowed_hosts": "Media.Example. bücher.example"}, ["media.example", "xn--bcher-kva.example"], ["example"]),
        ({"public_url": "https://media.example:8443/x"}, ["media.example", "media.example:1"], ["a.media.example"]),
        ({"open": True}, ["evil.example", "media.example"], []),
    ],
)
async def test_the_host_check_follows_the_settings_allowed_hosts_and_public_url(
    settings: dict[str, Any], served: list[str], refused: list[str]
) -> None:
    assert [await status(host, checks_host=True, **settings) for host in served] == [404] * len(served)
    assert [await status(host, checks_host=True, **settings) for host in refused] == [421] * len(refused)


async def test_an_application_without_the_serve_command_checks_hosts_only_if_allowed_hosts_is_set() -> None:
    """If ServerPY is not run by `serverpy serve`, ServerPY does not check the Host header unless ALLOWED_HOSTS is set:
    the parent application or the ASGI server is responsible for this check."""
    assert await status("test", checks_host=False) == 404
    assert await status("test", checks_host=False, allowed_hosts="media.example") == 421
    assert await status("media.example", checks_host=False, allowed_hosts="media.example") == 404
