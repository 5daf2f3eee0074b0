"""Helpers that run the HTTP client `Client` without a server around it, and that make handlers for `Origin` which
respond with given bytes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serverpy.net.client import Client
from serverpy.net.http1 import Request
from serverpy.options import Timeouts
from tests.net.egress.clients import LOOPBACK
from tests.net.origin import read_head
from tests.opening import rest_of


@asynccontextmanager
async def client(**settings: object) -> AsyncIterator[Client]:
    made = Client(LOOPBACK, timeouts=Timeouts(connect=30.0, stall=30.0), **settings)  # type: ignore[arg-type]
    yield made
    assert made.open_connections == 0
    made.close()


async def fetched(made: Client, url: str) -> tuple[int, bytes]:
    response = await made.open(Request(url=url))
    try:
        return response.status, await rest_of(response)
    finally:
        response.close()


def saying(*answers: bytes) -> Callable[[socket.socket, bytes], None]:
    """Return a handler that sends one of `answers` for each request of a connection, in order, and then closes the
    connection."""

    def handle(connection: socket.socket, head: bytes) -> None:
        for number, answer in enumerate(answers):
            if number:
                read_head(connection)
            connection.sendall(answer)

    return handle


OK = b"HTTP/1.1 200 OK\r\n"
