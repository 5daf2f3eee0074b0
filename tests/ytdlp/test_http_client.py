"""Tests of yt-dlp's HTTP client in the worker. It accepts the same unusual responses as ServerPY's own client, also
over https, and never reports a truncated body as complete."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import trustme

from serverpy.errors import UpstreamFailed
from serverpy.ytdlp import http_client
from serverpy.ytdlp.http_client import TolerantResponse
from tests.net.opening import saying
from tests.net.origin import DEADLINE, Origin
from tests.ytdlp.streams import Running, progressive

BODY = bytes(range(256)) * 400


@dataclass(frozen=True)
class Tls:
    server: ssl.SSLContext
    ca: str


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return Tls(context, str(path))


@pytest.fixture(autouse=True)
def tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "response_class", TolerantResponse)


OK = b"HTTP/1.1 200 OK\r\n"
ODD = {
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    "102, 100, 103": b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\n\r\n" + OK + b"\r\nhello",
    "icy": b"ICY 200 OK\r\nicy-name: x\r\n\r\nhello",
    "lf": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "no colon before the length": OK + b"nonsense\r\nContent-Length: 5\r\n\r\nhello",
    "blank in a name before the length": OK + b"Two Words: x\r\nContent-Length: 5\r\n\r\nhello",
    "length and chunked": OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "empty lines first": b"\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_the_http_client_of_yt_dlp_reads_unusual_responses_that_browsers_read(
    tls: Tls, answer: bytes, secure: bool
) -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(answer)

    with Origin(handle, tls.server if secure else None) as origin, requests.Session() as session:
        session.trust_env = False
        reply = session.get(origin.url, verify=tls.ca, timeout=DEADLINE)
    assert (reply.status_code, reply.content) == (200, b"hello")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4000,
        b"\r\n" * 40_000,
    ],
    ids=["nothing", "ssh", "two lengths", "long", "endless 103", "endless empty lines"],
)
def test_the_http_client_of_yt_dlp_raises_an_error_for_an_unreadable_response(answer: bytes) -> None:
    response = TolerantResponse(Reading(answer))
    with pytest.raises(http.client.BadStatusLine):
        response.begin()


@pytest.mark.parametrize("framing", [b"Content-Length: 9999999\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_the_http_client_of_yt_dlp_does_not_read_the_body_of_a_redirect(framing: bytes) -> None:
    """urllib and requests read the body of a redirect to its end before they follow the redirect. Such a body may be
    endless."""
    answer = b"HTTP/1.1 302 Found\r\nLocation: /to\r\nConnection: keep-alive\r\n%s\r\n" % framing
    response = TolerantResponse(Reading(answer + b"9\r\nendless..\r\n" * 1000))
    response.begin()
    assert (response.status, response.read(), response.will_close) == (302, b"", True)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EXCESSIVE = {
    "extensions of small chunks": b"1;x=%s\r\na\r\n" % (b"x" * 1000) * 2000,
    "extensions after a long chunk": b"40000\r\n%s\r\n" % bytes(0x40000) + b"1;x=%s\r\na\r\n" % (b"x" * 1000) * 2000,
    "trailers": b"1\r\na\r\n0\r\n" + b"X-T: x\r\n" * 20_000,
}


@pytest.mark.parametrize("body", EXCESSIVE.values(), ids=EXCESSIVE)
def test_the_http_client_of_yt_dlp_refuses_a_body_with_too_many_bytes_of_framing(body: bytes) -> None:
    response = TolerantResponse(Reading(CHUNKED + body + b"0\r\n\r\n"))
    response.begin()
    with pytest.raises(http.client.HTTPException, match="framing"):
        response.read()
    with Origin(saying(CHUNKED + body + b"0\r\n\r\n")) as origin, requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="framing"):
            session.get(origin.url, timeout=DEADLINE)


@pytest.mark.parametrize("extension", [b"", b";chunk-signature=" + b"0" * 64], ids=["plain", "signed"])
def test_the_http_client_of_yt_dlp_reads_many_small_chunks(extension: bytes) -> None:
    body = b"64%s\r\n%s\r\n" % (extension, bytes(100)) * 2000
    with Origin(saying(CHUNKED + body + b"0\r\n\r\n")) as origin, requests.Session() as session:
        session.trust_env = False
        assert session.get(origin.url, timeout=DEADLINE).content == bytes(200_000)


class Reading:
    """Stand-in for a socket that has only the method `makefile`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def test_installing_the_tolerant_http_client_replaces_the_response_class_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "response_class", http.client.HTTPResponse)
    http_client.install()
    assert http.client.HTTPConnection.response_class is TolerantResponse


# --- the end of a body whose length is unknown

Handler = Callable[[socket.socket, bytes], None]


def ending(cleanly: bool, head: bytes = OK, at: int = len(BODY)) -> Handler:
    """Return a handler that sends `head` and the first `at` bytes of BODY, and then ends the connection: with
    close_notify if `cleanly` is true, and otherwise without it."""

    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(head + b"\r\n" + BODY[:at])
        if cleanly:
            assert isinstance(connection, ssl.SSLSocket)
            connection.unwrap()

    return handle


@pytest.fixture
def trusting(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment so that yt-dlp trusts the certificate authority of the tests instead of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca)


def downloaded(origin: Origin) -> Running:
    return Running(progressive(origin.url), compat_opts={"no-certifi"})


@pytest.mark.usefixtures("trusting")
def test_a_body_of_unknown_length_that_ends_with_close_notify_is_complete(tls: Tls) -> None:
    with Origin(ending(cleanly=True), tls.server) as origin, downloaded(origin) as download:
        assert (download.read_all(), download.error) == (BODY, None)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"Transfer-Encoding: identity\r\n"])
def test_a_body_of_unknown_length_that_ends_without_close_notify_raises_an_error(tls: Tls, head: bytes) -> None:
    """The media server ignores ranges, so the body is truncated again at each retry."""
    with Origin(ending(cleanly=False, head=head, at=50_000), tls.server) as origin, downloaded(origin) as download:
        assert download.read_all() == BODY[:50_000]
    assert isinstance(download.error, UpstreamFailed)
    assert len(origin.heads) > 1


@pytest.mark.usefixtures("trusting")
def test_a_body_that_ends_without_close_notify_is_resumed_if_the_server_supports_ranges(tls: Tls) -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        first = 50_000 - 4096
        if b"Range: bytes=%d-" % first not in head:
            connection.sendall(OK + b"\r\n" + BODY[:50_000])
            return
        part = b"HTTP/1.1 206 OK\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(part % (first, len(BODY) - 1, len(BODY), len(BODY) - first) + BODY[first:])

    with Origin(handle, tls.server) as origin, downloaded(origin) as download:
        assert (download.read_all(), download.error) == (BODY, None)


@pytest.mark.usefixtures("trusting")
def test_a_body_with_a_content_length_needs_no_close_notify(tls: Tls) -> None:
    head = OK + b"Content-Length: %d\r\n" % len(BODY)
    with Origin(ending(cleanly=False, head=head), tls.server) as origin, downloaded(origin) as download:
        assert (download.read_all(), download.error) == (BODY, None)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_an_internet_radio_stream_with_an_endless_range_is_downloaded(tls: Tls, secure: bool) -> None:
    head = (
        b"HTTP/1.0 206 Partial Content\r\nContent-Length: 18446744073709551615\r\n"
        b"Content-Range: bytes 0-18446744073709551614/18446744073709551615\r\n"
    )
    origin = Origin(ending(cleanly=secure, head=head), tls.server if secure else None)
    with origin, downloaded(origin) as download:
        assert (download.read_all(), download.error) == (BODY, None)
