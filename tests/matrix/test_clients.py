"""Tests of clients that misbehave, with every streaming method, while another client reads its streams normally."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.aio import wait_for
from tests.matrix.beside import SMALL_BUFFER, nothing_left, unharmed
from tests.matrix.cells import METHODS, Cell, Expected, judge, run_all
from tests.server import Server
from tests.wire import Exchange

LONG = "/media/large-64.mp4"
STALLED_SECONDS = 3.0
"""Seconds for which the client does not read. This time is longer than the server's STALL_TIMEOUT."""

Act = Callable[[Server, Cell, Expected], str | None]


def opened(server: Server, cell: Cell, *, receive_bytes: int | None = SMALL_BUFFER) -> Exchange:
    return server.open(cell.url(server.site), receive_bytes=receive_bytes, **cell.parameters)


def prefix(exchange: Exchange, cell: Cell, expected: Expected) -> str | None:
    if exchange.status != 200:
        return f"has status {exchange.status}"
    return None if expected[cell.method].startswith(bytes(exchange.body)) else "has wrong bytes"


def leaves_at_once(server: Server, cell: Cell, expected: Expected) -> str | None:
    opened(server, cell).leave()
    return None


def leaves_after_the_first_byte(server: Server, cell: Cell, expected: Expected) -> str | None:
    with opened(server, cell) as exchange:
        exchange.read(1)
        return prefix(exchange, cell, expected)


def leaves_in_the_middle(server: Server, cell: Cell, expected: Expected) -> str | None:
    with opened(server, cell) as exchange:
        exchange.read(len(expected[cell.method]) // 2)
        return prefix(exchange, cell, expected)


def leaves_after_the_last_byte(server: Server, cell: Cell, expected: Expected) -> str | None:
    with opened(server, cell) as exchange:
        exchange.read(len(expected[cell.method]))
        return prefix(exchange, cell, expected)


def stops_reading(server: Server, cell: Cell, expected: Expected) -> str | None:
    """Stop reading until the server cuts the stream after STALL_TIMEOUT, then read the rest.

    The requested file is too long for the socket buffers, and begins with the bytes of the sample file. A merged MP4
    fits into the buffers, so its stream may be complete.
    """
    if cell.method == "weave":
        with opened(server, cell) as exchange:
            exchange.read(100_000)
            begun = time.monotonic()
            wait_for(lambda: time.monotonic() - begun > STALLED_SECONDS)  # the server may or may not cut the stream
            return judge(cell, exchange.rest(), expected)
    with server.open(f"{LONG}?n={cell.method}", receive_bytes=SMALL_BUFFER, method=cell.method) as exchange:
        exchange.read(100_000)
        wait_for(
            lambda: f"{exchange.headers['x-request-id']} " in server.log, seconds=90
        )  # the log line that reports the end of the stream
        answer = exchange.rest()
    if answer.complete:
        return "is complete"
    film = expected.film
    return None if film.startswith(answer.body[: len(film)]) else "has wrong bytes"


def half_closes(server: Server, cell: Cell, expected: Expected) -> str | None:
    """Send FIN after the request, and read the response. The server may send the whole stream or cut the stream (RFC
    9112 §9.6)."""
    with opened(server, cell, receive_bytes=None) as exchange:
        exchange.shutdown_writing()
        try:
            return judge(cell, exchange.rest(), expected)
        except ConnectionError:
            return None  # the server took the FIN for a disconnect before it had sent a response head


def reads_slowly(server: Server, cell: Cell, expected: Expected) -> str | None:
    with opened(server, cell) as exchange:
        for length in range(0, 1 << 20, 8192):
            exchange.read(length)
        return judge(cell, exchange.rest(), expected)


def pipelines(server: Server, cell: Cell, expected: Expected) -> str | None:
    """Send three pipelined requests. The three responses must be complete and right, and arrive in the order of the
    requests."""
    target = server.target(cell.url(server.site), **cell.parameters)
    one = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    last = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    right = expected[cell.method]
    with server.send(one + one + last) as exchange:
        data = exchange.everything()
    for _ in range(3):
        head, _, data = data.partition(b"\r\n\r\n")
        if b" 200 OK" not in head:
            return f"is refused: {head[:100]!r}"
        body, data = split(head, data)
        if body != right:
            return f"has a body of {len(body)} bytes that are not the {len(right)} expected bytes"
    return f"has {len(data)} bytes after the last response" if data else None


def split(head: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the body of the response that has the head `head`, and the bytes of `data` that follow this body."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        return data[:length], data[length:]
    body = bytearray()
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += data[:length]
        data = data[length + 2 :]
        if not length:
            return bytes(body), data


ACTS: tuple[Act, ...] = (
    *(leaves_at_once, leaves_after_the_first_byte, leaves_in_the_middle, leaves_after_the_last_byte),
    *(stops_reading, half_closes, reads_slowly, pipelines),
)


def table() -> Iterator[tuple[Act, Cell]]:
    for act in ACTS:
        for method in METHODS:
            yield act, Cell(act.__name__.replace("_", " "), "times=0", method, fatal=False)


CELLS = list(table())
BY_NAME = {str(cell): act for act, cell in CELLS}


def run_cells(server: Server, expected: Expected, cells: list[Cell]) -> list[str]:
    with nothing_left(server), unharmed(server):
        return run_all(cells, lambda cell: BY_NAME[str(cell)](server, cell, expected))


def test_other_clients_get_every_byte_in_spite_of_misbehaving_clients_in_a_fifth_of_the_fault_matrix(
    impatient: Server, expected: Expected
) -> None:
    wrong = run_cells(impatient, expected, [cell for _, cell in CELLS[::5]])
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
def test_other_clients_get_every_byte_in_spite_of_misbehaving_clients_in_the_whole_fault_matrix(
    impatient: Server, expected: Expected
) -> None:
    wrong = run_cells(impatient, expected, [cell for _, cell in CELLS])
    assert not wrong, "\n".join(wrong)
