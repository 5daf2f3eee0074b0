"""Server on loopback, with one thread per connection, whose responses a test determines byte by byte."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable

DEADLINE = 30.0

BODY = random.Random(7).randbytes(8 * 1024 * 1024)
DIGEST = hashlib.sha256(BODY).hexdigest()

Handler = Callable[[socket.socket, bytes], None]
"""Function that is called with a new connection and the head of its first request. When the function returns, the
server closes the connection."""


class Origin:
    """Server that calls a handler for each connection, as a context manager. Leaving the context closes all connections
    and joins the threads.

    `heads` contains the request heads that the server has received.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.heads: list[bytes] = []
        self.left = threading.Event()
        """Event that is set when a handler ends because its client has disconnected."""

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/file?q=1"

    def __enter__(self) -> Origin:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            try:
                if self._tls:
                    connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                head = read_head(connection)
                self.heads.append(head)
                self._handler(connection, head)
            except OSError:
                self.left.set()


def read_head(connection: socket.socket) -> bytes:
    """Read a request head up to the empty line, byte by byte, so that the body stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionResetError("client disconnected before the head ended")
        head += byte
    return head


def read_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (piece := connection.recv(min(65536, length - len(data)))):
        data += piece
    return bytes(data)


def content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return int(next(line[15:] for line in lines if line.startswith(b"content-length:")))


def send_sized(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(BODY))
    connection.sendall(BODY)


def send_chunked(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(BODY), 50_000):
        piece = BODY[start : start + 50_000]
        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")


def send_until_close(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)


def digest_of_upload(connection: socket.socket, head: bytes) -> None:
    digest = hashlib.sha256(read_exactly(connection, content_length(head))).hexdigest()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest.encode())


def wait_for_end(connection: socket.socket, head: bytes) -> None:
    """Send nothing, and return once the client has disconnected."""
    if not connection.recv(1):
        raise ConnectionResetError("client disconnected")


def reset(connection: socket.socket) -> None:
    """Close the connection with a TCP RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
