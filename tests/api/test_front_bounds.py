"""Tests of the bounds on what a client may send, and on the memory that its requests may take. Each row of a table
names a bound and defines an attack on this bound, the expected status, and the allowed memory."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serverpy.api.request_limits import BODY_BYTES, HEADER_BYTES, HEADER_FIELDS, PIPELINED, TARGET_BYTES
from serverpy.sample.site import SampleSite
from tests.server import Server, serving

MB = 1_000_000
HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /ready HTTP/1.1\r\n" + HOST
FIELDS = b"".join(b"x%d: y\r\n" % number for number in range(8000))
KEPT = b"".join(b"X-Forwarded-For: 192.0.2.%d\r\n" % number for number in range(HEADER_FIELDS - 1))
FAT = b"Cookie: " + b"c" * (HEADER_BYTES - 200) + b"\r\n"
SLOW = b"GET /info?url=SITE/page/slow%3fseconds=300 HTTP/1.1\r\n" + HOST
"""The head of a request that keeps the server waiting for a page for 300 s. The test replaces `SITE` by the origin of
the sample site."""
CLOSED = None
"""Expected result in place of a status code: the server closes the connection without a response."""
OPEN = 0
"""Expected result in place of a status code: the server does not respond while the test runs, because the request is
incomplete or its page is slow."""


@dataclass(frozen=True)
class Row:
    """An attack: each of `connections` connections sends `data`, and gets a response with the status `answer`. All
    connections together may take less than `pss_bytes` bytes of memory (PSS)."""

    bound: str
    data: bytes
    answer: int | None
    connections: int = 40
    pss_bytes: int = 12 * MB
    counted: str | None = None
    """Name and label of the metric that counts the refusals, separated by a space. It is None if the test checks no
    metric."""


def post(body: bytes, path: bytes = b"/links") -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def stream(parameter: bytes) -> bytes:
    return b"GET /stream?url=http://a/&" + parameter + b" HTTP/1.1\r\n" + HOST + b"\r\n"


TABLE = [
    Row("too many pipelined header fields", (GET + FIELDS + b"\r\n") * 15, 431, counted="refused headers_too_large"),
    Row("too many header fields", GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n", 431),
    Row("too many header fields, incomplete request", GET + FIELDS, 431),
    Row("a header section that is too long", GET + b"a: " + b"b" * HEADER_BYTES + b"\r\n\r\n", 431),
    Row("an endless field value", GET + b"a: " + b"b" * MB, 431),
    Row("an endless field name", GET + b"a" * MB, 431),
    Row("endless white space in a field", GET + b"a:" + b" " * MB, 431),
    Row("a request target that is too long", b"GET /?" + b"a" * TARGET_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    Row("an endless request target", b"GET /" + b"a" * MB, 414, counted="refused url_too_long"),
    Row("an endless request target that is not ASCII", b"GET /" + b"\xff" * MB, 414),
    Row("a Content-Length above the limit", GET + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES + 1), 413),
    Row("leading zeros of Content-Length", GET + b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nabcde", 200),
    Row("digits of Content-Length", GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of the port in Host", b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:" + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of Range", GET.replace(b"/ready", b"/stream") + b"Range: bytes=0-" + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of the parameter item", stream(b"item=" + b"9" * 5000), 400),
    Row("digits of the parameter start", stream(b"start=" + b"9" * 5000), 400),
    Row("digits of a chunk size", GET + b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 5000, 400),
    Row("digits of the HTTP version", b"GET /ready HTTP/1." + b"1" * 5000 + b"\r\n" + HOST + b"\r\n", 400),
    Row("digits of `ttl` in JSON", post(b'{"url": "http://a.test/", "ttl": ' + b"9" * 5000 + b"}"), 400),
    Row("digits of `uses` in JSON", post(b'{"url": "http://a.test/", "uses": ' + b"9" * 5000 + b"}"), 400),
    Row("nesting of JSON", post(b"[" * 60_000), 400),
    Row("a body for a method that is refused", post(b"x" * MB, b"/ready")[:-1000], 405),
    Row("an endless chunk extension", GET + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 4 * MB, CLOSED),
    Row("an endless trailer field", GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\na: " + b"b" * 4 * MB, CLOSED),
    Row("too many trailer fields", GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + FIELDS, 400),
    Row("incomplete requests with long fields", GET + FAT, OPEN, connections=200),
    Row("header fields that are kept", GET + KEPT + b"\r\n", 200, connections=200),
    Row("pipelined requests with kept fields", SLOW + b"\r\n" + (GET + KEPT + b"\r\n") * (PIPELINED - 1), OPEN),
    Row("pipelined requests", SLOW + b"\r\n" + (GET + b"\r\n") * 99, CLOSED, counted="connections_closed pipelined"),
    Row("long fields of requests in progress", SLOW + FAT + b"\r\n", OPEN, connections=100),
]  # fmt: skip


@pytest.fixture(scope="module")
def front(site: SampleSite) -> Iterator[Server]:
    with serving(site, memory_budget="64MiB", max_streams=100, rate_limit="none") as running:
        yield running


def pss(server: Server) -> int:
    processes = [psutil.Process(server.process.pid), *server.children()]
    return sum(each.memory_full_info().pss for each in processes)


def send(server: Server, data: bytes) -> socket.socket:
    """Connect to the server, and send `data` until the server closes the connection. Returns the connection."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)
    return connection


def status(connection: socket.socket) -> int | None:
    try:
        head = connection.recv(12)
    except ConnectionError:
        return CLOSED
    return int(head[9:12]) if head else CLOSED


def count(server: Server, counter: str) -> float:
    name, label = counter.split()
    families = text_string_to_metric_families(server.ask("/metrics").body.decode())
    (family,) = (each for each in families if each.name == f"serverpy_{name}")
    return sum(sample.value for sample in family.samples if label in sample.labels.values())


@pytest.mark.parametrize("row", TABLE, ids=[f"{row.bound}-{row.answer}" for row in TABLE])
def test_each_attack_gets_its_expected_status_and_takes_less_memory_than_its_bound(front: Server, row: Row) -> None:
    data = row.data.replace(b"SITE", front.site.http.encode())
    base, refused = pss(front), count(front, row.counted) if row.counted else 0
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(send(front, data)) for _ in range(row.connections)]
        if row.answer != OPEN:
            answers = {status(each) for each in connections}
            if row.answer == CLOSED:  # a request that ends in its body may be answered before the connection is closed
                answers.discard(200)
            assert answers <= {row.answer}
        assert front.ask("/ready").status == 200
        taken = pss(front) - base
    print(row.bound, taken)
    assert taken < row.pss_bytes, taken
    if row.counted:
        assert count(front, row.counted) >= refused + row.connections
