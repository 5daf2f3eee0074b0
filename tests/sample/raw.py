"""HTTP client that returns the bytes of a response unchanged, with the framing of the body, and that states how the
connection ended."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from tests.aio import PATIENCE_SECONDS

End = Literal["length", "fin", "rst", "silence"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `body` contains all bytes after the head, with their framing. `end` states how the body ended:
    "length" after all bytes that Content-Length promised, "fin", "rst", or "silence" if no byte came for
    `silence_seconds` after the head."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: End
    seconds: float


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_SECONDS)


def ask(
    url: str,
    *headers: str,
    method: str = "GET",
    silence_seconds: float = PATIENCE_SECONDS,
    until_end: bool = False,
    body: bytes = b"",
) -> Answer:
    """Send a request on a new connection, and return the response. If `until_end` is true, continues to read after the
    end of the body that Content-Length gives."""
    begin = time.monotonic()
    with connect(url) as client:
        client.sendall(_request(url, method, headers, body))
        data = bytearray()
        while True:
            client.settimeout(silence_seconds if b"\r\n\r\n" in data else PATIENCE_SECONDS)
            piece = receive(client)
            if isinstance(piece, str):
                return _answer(bytes(data), piece, begin)
            data += piece
            if not until_end and _is_complete(bytes(data), method):
                return _answer(bytes(data), "length", begin)


def receive(client: socket.socket) -> bytes | End:
    """Return the next bytes, or, if there are no more bytes, how the connection ended ("fin", "rst" or "silence")."""
    try:
        return client.recv(65536) or "fin"
    except ConnectionResetError:
        return "rst"
    except TimeoutError:
        return "silence"


def _request(url: str, method: str, headers: tuple[str, ...], body: bytes) -> bytes:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _split(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


def _is_complete(data: bytes, method: str) -> bool:
    if b"\r\n\r\n" not in data:
        return False
    _, headers, body = _split(data)
    length = headers.get("content-length")
    return length is not None and (method == "HEAD" or len(body) >= int(length))


def _answer(data: bytes, end: End, begin: float) -> Answer:
    status, headers, body = _split(data) if data else (0, {}, b"")
    return Answer(status, headers, body, end, time.monotonic() - begin)
