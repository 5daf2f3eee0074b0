"""The bounds on what clients may send and hold. Each row of the table names the bound, the attack on it, the answer,
and the memory that the attack may take."""

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
"""A request whose answer takes long; `SITE` is replaced by the address of the sample site."""
CLOSED = None
"""In place of a status: the server closes the connection without an answer."""
OPEN = 0
"""In place of a status: the server waits for the rest of the request."""


@dataclass(frozen=True)
class Row:
    """An attack: `data`, sent on each of `connections`, is answered with the status `answer`, and takes at most
    `pss_bytes` of memory."""

    bound: str
    data: bytes
    answer: int | None
    connections: int = 40
    pss_bytes: int = 12 * MB
    counted: str | None = None
    """The name and the label of the counter that counts the refusals."""


def post(body: bytes, path: bytes = b"/links") -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def stream(parameter: bytes) -> bytes:
    return b"GET /stream?url=http://a/&" + parameter + b" HTTP/1.1\r\n" + HOST + b"\r\n"


TABLE = [
    Row("fields of a head, pipelined", (GET + FIELDS + b"\r\n") * 15, 431, counted="refused headers_too_large"),
    Row("fields of a head", GET + b"a: b\r\n" * HEADER_FIELDS + b"\r\n", 431),
    Row("fields of an unfinished head", GET + FIELDS, 431),
    Row("bytes of a head", GET + b"a: " + b"b" * HEADER_BYTES + b"\r\n\r\n", 431),
    Row("bytes of an unfinished field", GET + b"a: " + b"b" * MB, 431),
    Row("bytes of an unfinished name", GET + b"a" * MB, 431),
    Row("white space in a head", GET + b"a:" + b" " * MB, 431),
    Row("bytes of a target", b"GET /?" + b"a" * TARGET_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    Row("bytes of an unfinished target", b"GET /" + b"a" * MB, 414, counted="refused url_too_long"),
    Row("bytes of a target that is not ASCII", b"GET /" + b"\xff" * MB, 414),
    Row("declared length of a body", GET + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES + 1), 413),
    Row("digits of a length", GET + b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nabcde", 200),
    Row("digits of a length", GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of a port", b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:" + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of a range", GET.replace(b"/ready", b"/stream") + b"Range: bytes=0-" + b"9" * 5000 + b"\r\n\r\n", 400),
    Row("digits of an item", stream(b"item=" + b"9" * 5000), 400),
    Row("digits of a start", stream(b"start=" + b"9" * 5000), 400),
    Row("digits of a chunk", GET + b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 5000, 400),
    Row("digits of a version", b"GET /ready HTTP/1." + b"1" * 5000 + b"\r\n" + HOST + b"\r\n", 400),
    Row("digits in JSON", post(b'{"url": "http://a.test/", "ttl": ' + b"9" * 5000 + b"}"), 400),
    Row("digits in JSON", post(b'{"url": "http://a.test/", "uses": ' + b"9" * 5000 + b"}"), 400),
    Row("depth of JSON", post(b"[" * 60_000), 400),
    Row("a body that nobody reads", post(b"x" * MB, b"/ready")[:-1000], 405),
    Row("a body of chunks without data", GET + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 4 * MB, CLOSED),
    Row("a trailer", GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\na: " + b"b" * 4 * MB, CLOSED),
    Row("trailers", GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + FIELDS, 400),
    Row("an unfinished head", GET + FAT, OPEN, connections=200),
    Row("kept fields", GET + KEPT + b"\r\n", 200, connections=200),
    Row("pipelined requests of kept fields", SLOW + b"\r\n" + (GET + KEPT + b"\r\n") * (PIPELINED - 1), OPEN),
    Row("pipelined requests", SLOW + b"\r\n" + (GET + b"\r\n") * 99, CLOSED, counted="connections_closed pipelined"),
    Row("heads of running requests", SLOW + FAT + b"\r\n", OPEN, connections=100),
]  # fmt: skip


@pytest.fixture(scope="module")
def front(site: SampleSite) -> Iterator[Server]:
    with serving(site, memory_budget="64MiB", max_streams=100, rate_limit="none") as running:
        yield running


def pss(server: Server) -> int:
    processes = [psutil.Process(server.process.pid), *server.children()]
    return sum(each.memory_full_info().pss for each in processes)


def send(server: Server, data: bytes) -> socket.socket:
    """Send as much of `data` as the server takes."""
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
def test_an_attack_gets_the_answer_of_the_table_and_takes_no_more_memory_than_it_says(front: Server, row: Row) -> None:
    data = row.data.replace(b"SITE", front.site.http.encode())
    base, refused = pss(front), count(front, row.counted) if row.counted else 0
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(send(front, data)) for _ in range(row.connections)]
        if row.answer != OPEN:
            assert {status(each) for each in connections} == {row.answer}
        assert front.ask("/ready").status == 200
        taken = pss(front) - base
    print(row.bound, taken)
    assert taken < row.pss_bytes, taken
    if row.counted:
        assert count(front, row.counted) >= refused + row.connections
