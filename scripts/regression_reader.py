"""The clients of `scripts/regression.py`: one process that uses raw sockets, and whose input and output are one JSON
object each.

The process reads what to request as a line from stdin. It writes the outcome to stdout and exits with 0, or writes the
reason of a failure to stderr and exits with 1. The clients count every byte and follow the framing of every response,
but neither keep nor compare the bytes, so that they need less CPU than the server under load. The module imports only
the standard library.
"""

from __future__ import annotations

import json
import select
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

HOST = "127.0.0.1"
BUFFER_BYTES = 256 * 1024
HEAD_BYTES = 32 * 1024
CHUNK_LINE_BYTES = 256
SILENT_SECONDS = 30.0
"""Maximum number of seconds since any connection last received a byte. After this time, the load has failed."""

RECEIVE_BYTES = 64 * 1024
"""Size of the kernel's receive buffer of a slow client. With the default size, the client's kernel accepts megabytes of
the response before the server notices that the client is slow."""
SEGMENT_BYTES = 1448
"""TCP segment size of a slow client, as over Ethernet. With the segment size of loopback, 64 KB, the kernel buffers 2.6
MB per client."""
TICK_SECONDS = 0.025
SLOTS = 10
"""Number of groups of slow clients. On each tick, the clients of one group read."""


class ReadError(Exception):
    """Error that is raised if a response differs from the expected response."""


@dataclass(frozen=True)
class Request:
    """A GET request: its path, and the exact length of the response's body."""

    path: str
    body_bytes: int


class Framing:
    """Parser of the framing of one response, fed with the bytes of its connection in order.

    Raises ReadError if the status is not 200, the head or a chunk is malformed, the body is longer than expected or
    bytes follow its end.
    """

    def __init__(self, request: Request) -> None:
        self.over = False
        self.received = 0
        self._request = request
        self._head: bytearray | None = bytearray()
        self._chunked = False
        self._left = 0
        """Number of bytes until the end of the body, or until the end of the current chunk if the body is chunked."""
        self._line = bytearray()
        self._after_data = self._trailer = False

    def feed(self, data: memoryview) -> None:
        if self._head is not None:
            data = self._feed_head(self._head, data)
        while len(data) and not self.over:
            data = self._feed_data(data) if self._left else self._feed_line(data)
        if len(data):
            raise ReadError("the server sent bytes after the end of the body")
        if self.received > self._request.body_bytes:
            raise ReadError(f"the body has more bytes than the expected {self._request.body_bytes}")

    def _feed_head(self, head: bytearray, data: memoryview) -> memoryview:
        """Add `data` to the head of the response. Returns the bytes after the head, or an empty view while the head is
        not complete."""
        before = len(head)
        head += data[:HEAD_BYTES]
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if len(head) >= HEAD_BYTES:
                raise ReadError("the head of the response is larger than {HEAD_BYTES} bytes")
            return data[len(data) :]
        self._head = None
        self._open_body(bytes(head[:end]).lower())
        return data[end + 4 - before :]

    def _open_body(self, head: bytes) -> None:
        status, *lines = head.split(b"\r\n")
        if status.split(b" ")[1:2] != [b"200"]:
            raise ReadError(f"status {status.decode('latin-1')!r} instead of 200 for {self._request.path}")
        fields = dict(line.partition(b":")[::2] for line in lines)
        self._chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
        if not self._chunked:
            self._left = int(fields.get(b"content-length", b"-1"))
            if self._left != self._request.body_bytes:
                raise ReadError(f"the response has Content-Length {self._left}, expected {self._request.body_bytes}")
            self.over = not self._left

    def _feed_data(self, data: memoryview) -> memoryview:
        taken = min(self._left, len(data))
        self.received += taken
        self._left -= taken
        if not self._left:
            self._after_data = self._chunked
            self.over = not self._chunked
        return data[taken:]

    def _feed_line(self, data: memoryview) -> memoryview:
        piece = bytes(data[:CHUNK_LINE_BYTES])
        end = piece.find(b"\n") + 1
        self._line += piece[:end] if end else piece
        if len(self._line) > CHUNK_LINE_BYTES:
            raise ReadError("malformed chunk: its size line is too long")
        if end:
            line, self._line = bytes(self._line).strip(), bytearray()
            self._end_line(line)
        return data[end or len(piece) :]

    def _end_line(self, line: bytes) -> None:
        if self._after_data:
            self._after_data = False
            if line:
                raise ReadError("malformed chunk: its data are not followed by CRLF")
        elif self._trailer:
            self.over = not line
        else:
            self._left = int(line.split(b";")[0], 16)
            self._trailer = not self._left

    def check(self) -> None:
        """Check that the body is complete. Raises ReadError if bytes of the body are missing."""
        if not self.over or self.received != self._request.body_bytes:
            expected = self._request.body_bytes
            raise ReadError(f"{self._request.path} ended after {self.received} of {expected} bytes")


class Connection:
    """A client that sends requests one after the other, over a single connection if `keep` is true.

    The owner calls `close`.
    """

    def __init__(self, port: int, *, keep: bool, slow: bool = False) -> None:
        self._port, self._keep, self._slow = port, keep, slow
        self._socket: socket.socket | None = None
        self._begun = 0.0
        self.first_byte: float | None = None
        self.framing = Framing(Request("", 0))

    @property
    def socket(self) -> socket.socket:
        if self._socket is None:
            raise ReadError("the client is not connected: send a request first")
        return self._socket

    def send(self, request: Request) -> None:
        self._begun, self.first_byte = time.perf_counter(), None
        if self._socket is None:
            self._connect()
        self.framing = Framing(request)
        kept = "" if self._keep else "Connection: close\r\n"
        self.socket.sendall(f"GET {request.path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n{kept}\r\n".encode())

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(SILENT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._slow:  # the options SO_RCVBUF and TCP_MAXSEG take effect only if they are set before the connect
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self._socket.connect((HOST, self._port))

    def take(self, buffer: memoryview) -> bool:
        """Read once from the readable socket. Returns True if the response has ended and, unless `keep` is true, the
        server has closed the connection."""
        count = self.socket.recv_into(buffer)
        if not count:
            self.framing.check()
            if self._keep:
                raise ReadError("the server closed the connection after a response, but the load needs keep-alive")
            self.close()
            return True
        self.framing.feed(buffer[:count])
        if self.first_byte is None and self.framing.received:
            self.first_byte = time.perf_counter() - self._begun
        if self.framing.over:
            self.framing.check()
        return self.framing.over and self._keep

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def read_whole(port: int, requests: list[Request], connections: int, *, keep: bool) -> dict[str, object]:
    """Send all requests over `connections` connections, and read each response at full speed. Raises ReadError if a
    response is wrong, OSError if a connection fails."""
    waiting, buffer = deque(requests), memoryview(bytearray(BUFFER_BYTES))
    first_bytes = list[float]()
    begun = time.perf_counter()
    with selectors.DefaultSelector() as selector:

        def begin(connection: Connection) -> None:
            connection.send(waiting.popleft())
            if connection.socket not in selector.get_map():
                selector.register(connection.socket, selectors.EVENT_READ, connection)

        for _ in range(min(connections, len(requests))):
            begin(Connection(port, keep=keep))
        while selector.get_map():
            events = selector.select(SILENT_SECONDS)
            if not events:
                raise ReadError(f"no client received a byte for {SILENT_SECONDS:g} s")
            for key, _ in events:
                connection: Connection = key.data
                if not keep:  # `take` may close the socket, and a selector must not contain closed sockets
                    selector.unregister(key.fileobj)
                if not connection.take(buffer):
                    if not keep:
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
                    continue
                first_bytes.append(connection.first_byte or 0.0)
                if waiting:
                    begin(connection)
                elif keep:
                    selector.unregister(key.fileobj)
                    connection.close()
    return {"first_bytes": first_bytes, "seconds": time.perf_counter() - begun}


def read_slowly(port: int, request: Request, clients: int, rate: int) -> dict[str, object]:
    """Read with `clients` clients at `rate` bytes per second each until stdin ends. Print a line once every client has
    received its first byte.

    Raises ReadError if a response ends before stdin does, or differs from the expected one.
    """
    buffer = memoryview(bytearray(BUFFER_BYTES))
    crowd = [Connection(port, keep=True, slow=True) for _ in range(clients)]
    for connection in crowd:
        connection.send(request)
    for connection in crowd:  # until a connection is read, the kernel buffers its response
        while not connection.framing.received:
            if connection.take(buffer[:4096]):
                raise ReadError("the response ended before its client had received the first byte")
        connection.socket.setblocking(False)
    print("reading", flush=True)
    begun, received = time.perf_counter(), [connection.framing.received for connection in crowd]
    for slot in _ticks():
        allowed = int((time.perf_counter() - begun) * rate)
        for number in range(slot, clients, SLOTS):
            connection = crowd[number]
            due = received[number] + allowed - connection.framing.received
            _take_due(connection, buffer, due)
    return {"received": [each.framing.received for each in crowd], "seconds": time.perf_counter() - begun}


def _ticks() -> Iterator[int]:
    """Yield the number of the group of clients that reads next, once per tick, until stdin ends."""
    slot = 0
    while not select.select([sys.stdin], [], [], TICK_SECONDS)[0]:
        yield slot
        slot = (slot + 1) % SLOTS


def _take_due(connection: Connection, buffer: memoryview, due: int) -> None:
    if due <= 0:
        return
    try:
        if connection.take(buffer[:due]):
            raise ReadError("a response ended before its client disconnected")
    except BlockingIOError:
        return


def main() -> None:
    order = json.loads(sys.stdin.readline())
    requests = [Request(path, body_bytes) for path, body_bytes in order["requests"]]
    try:
        if "rate" in order:
            outcome = read_slowly(order["port"], requests[0], order["clients"], order["rate"])
        else:
            outcome = read_whole(order["port"], requests, order["clients"], keep=order["keep"])
    except (ReadError, OSError, ValueError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
