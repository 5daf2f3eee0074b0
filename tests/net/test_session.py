"""Tests of the redirects that a session follows, and of the credentials that it sends."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from serverpy.errors import TargetForbidden, UpstreamFailed
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.net.session import MAX_REDIRECTS, Session
from tests.net.opening import OK, client
from tests.net.origin import Origin, reset
from tests.opening import rest_of

DONE = OK + b"Content-Length: 4\r\n\r\ndone"


def to(location: str, status: int = 302, *fields: str) -> bytes:
    lines = (f"HTTP/1.1 {status} x", f"Location: {location}", "Content-Length: 0", *fields, "", "")
    return "\r\n".join(lines).encode()


def serving(pages: dict[str, bytes], otherwise: bytes = DONE) -> Callable[[socket.socket, bytes], None]:
    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(pages.get(head.split(b" ")[1].decode(), otherwise))

    return handle


async def opened(made: Client, url: str, **headers: str) -> tuple[str, bytes]:
    response = await Session(made, headers).open(url, {})
    try:
        return response.url, await rest_of(response)
    finally:
        response.close()


def path_of(head: bytes) -> str:
    return head.split(b" ")[1].decode()


def field(head: bytes, name: str) -> str | None:
    match = re.search(rf"^{name}: (.*?)\r$", head.decode("latin-1"), re.MULTILINE | re.IGNORECASE)
    return match[1] if match else None


@pytest.mark.parametrize("location", ["  /to", "/to \t", "\x0c/to\x1f", "{base}/to ", "//{host}/to", "to", "./x/../to"])
@pytest.mark.parametrize("status", [300, 302, 308])
async def test_a_redirect_is_followed_as_browsers_and_curl_do(location: str, status: int) -> None:
    pages: dict[str, bytes] = {}
    with Origin(serving(pages)) as origin:
        host = f"127.0.0.1:{origin.port}"
        pages["/from"] = to(location.format(base=f"http://{host}", host=host), status)
        async with client() as made:
            assert await opened(made, f"http://{host}/from") == (f"http://{host}/to", b"done")
        assert [path_of(head) for head in origin.heads] == ["/from", "/to"]


async def test_the_location_of_a_redirect_may_have_characters_that_are_not_allowed_in_urls() -> None:
    with Origin(serving({"/": to("/a b|c/ä/../{d}?e^f")})) as origin:
        async with client() as made:
            await opened(made, f"http://127.0.0.1:{origin.port}/")
        assert path_of(origin.heads[1]) == "/a%20b%7Cc/%7Bd%7D?e%5Ef"


@pytest.mark.parametrize("status", [200, 304, 305])
async def test_a_location_header_is_followed_only_with_a_redirect_status(status: int) -> None:
    with Origin(serving({}, to("/to", status))) as origin:
        async with client() as made:
            await opened(made, origin.url)
    assert len(origin.heads) == 1


async def test_a_redirect_without_a_location_is_returned_as_the_final_response() -> None:
    with Origin(serving({}, to(" "))) as origin:
        async with client() as made:
            response = await Session(made, {}).open(origin.url, {})
            assert response.status == 302
            response.close()


def chain(length: int) -> dict[str, bytes]:
    return {f"/{number}": to(f"/{number + 1}", (301, 302, 303, 307)[number % 4]) for number in range(length)}


async def test_a_session_follows_a_limited_number_of_redirects() -> None:
    for length in (15, MAX_REDIRECTS):
        with Origin(serving(chain(length))) as origin:
            async with client() as made:
                assert (await opened(made, f"http://127.0.0.1:{origin.port}/0"))[1] == b"done"
    with Origin(serving(chain(MAX_REDIRECTS + 1))) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="too many"):
                await opened(made, f"http://127.0.0.1:{origin.port}/0")


@pytest.mark.parametrize("pages", [{"/0": to("/0")}, {"/0": to("/1"), "/1": to("/0")}, {"/0": to("/1"), "/1": to("#")}])
async def test_a_redirect_loop_raises_an_error(pages: dict[str, bytes]) -> None:
    with Origin(serving(pages)) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="loop"):
                await opened(made, f"http://127.0.0.1:{origin.port}/0")
    assert len(origin.heads) <= 3


async def test_a_redirect_to_the_same_url_is_not_refused_as_a_loop_if_it_sets_a_cookie() -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(DONE if field(head, "Cookie") else to("/", 302, "Set-Cookie: seen=1"))

    with Origin(handle) as origin:
        async with client() as made:
            assert (await opened(made, f"http://127.0.0.1:{origin.port}/"))[1] == b"done"


async def test_the_guard_checks_the_address_of_every_redirect() -> None:
    with Origin(serving({})) as inside, Origin(serving({}, to(inside.url))) as outside:
        made = Client(Guard(allow=parse_networks([f"127.0.0.1:{outside.port}"])))
        with pytest.raises(TargetForbidden):
            await opened(made, outside.url)
    assert (len(outside.heads), inside.heads) == (1, [])


# --- credentials

BASIC = "Basic " + base64.b64encode(b"us@er:pa:ss").decode()


async def test_credentials_in_a_url_are_sent_as_basic_authorization_to_its_origin_only() -> None:
    with ExitStack() as stack:
        other = stack.enter_context(Origin(serving({})))
        pages = {"/film": to(f"http://127.0.0.1:{other.port}/elsewhere")}
        origin = stack.enter_context(Origin(serving(pages)))
        async with client() as made:
            session = Session(made, {"X-Kept": "1"})
            base = f"127.0.0.1:{origin.port}"
            for url in (f"http://us%40er:pa%3ass@{base}/list", f"http://{base}/segment", f"http://{base}/film"):
                response = await session.open(url, {})
                assert "@" not in response.url
                response.close()
    assert [field(head, "Authorization") for head in origin.heads] == [BASIC] * 3
    assert [field(head, "Host") for head in origin.heads] == [base] * 3
    (elsewhere,) = other.heads
    assert (path_of(elsewhere), field(elsewhere, "Authorization"), field(elsewhere, "X-Kept")) == (
        "/elsewhere",
        None,
        "1",
    )


async def test_credentials_in_a_url_replace_the_authorization_header_from_the_extraction() -> None:
    with Origin(serving({})) as origin:
        async with client() as made:
            await opened(made, f"http://u:p@127.0.0.1:{origin.port}/", authorization="Bearer x")
        assert origin.heads[0].lower().count(b"authorization:") == 1
        assert field(origin.heads[0], "Authorization") == "Basic dTpw"


async def test_no_error_message_of_a_session_contains_the_password() -> None:
    with Origin(lambda connection, head: reset(connection)) as origin:
        async with client() as made:
            for url in (f"http://u:secret@127.0.0.1:{origin.port}/", "http://u:secret@[::1/", "ftp://u:secret@h/"):
                with pytest.raises(UpstreamFailed) as caught:
                    await opened(made, url)
                assert "secret" not in str(caught.value)
