"""A patch that makes Python's `http.client`, on which yt-dlp's requests are based, as tolerant of malformed responses
as ServerPY's own HTTP client.

Over http, the filtering proxy repairs the heads of responses. Over https the proxy cannot read the heads, so this
module repairs them with the same code. The worker process and the yt-dlp processes of the `subprocess` method install
this patch.
"""

from __future__ import annotations

import http.client
import io
import ssl
from typing import Any

from serverpy.net.bounds import FRAMING_GRACE_BYTES, excess
from serverpy.net.heads import MAX_HEAD_BYTES, BadHead, repair_response
from serverpy.net.response_head import MAX_INTERIM


class TolerantResponse(http.client.HTTPResponse):
    """A response that repairs its head before `http.client` parses it, and skips all interim responses (`http.client`
    skips only those with status 100)."""

    cut_is_an_error = False
    """Whether responses in this process treat the end of a TLS connection without close_notify as an error."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        self.sock = sock
        self._has_begun = False
        super().__init__(sock, *args, **kwargs)

    def begin(self) -> None:
        stream: Any = self.fp
        try:
            if not self._has_begun and (head := self._final_head()):
                self.fp: Any = io.BytesIO(head)  # `http.client` calls only `fp.readline` here
            super().begin()
        finally:
            self.fp = stream
        if self.chunked and not self._has_begun:
            self.fp = _Chunks(stream)
        self._has_begun = True
        if self.cut_is_an_error:
            refuse_cut(self)

    def _final_head(self) -> bytes:
        """Read up to the beginning of the body, and return the head of the final response. Returns `b""` if the
        connection ended before a head."""
        try:
            head, left = _read_head(self.fp, MAX_HEAD_BYTES)
            for _ in range(MAX_INTERIM + 1):
                if not head:
                    return b""
                status, repaired = repair_response(head)
                if status >= 200:
                    return repaired
                head, left = _read_head(self.fp, left)
            raise BadHead("The media server sent too many interim responses.")
        except BadHead as error:
            raise http.client.BadStatusLine(str(error)) from None


class _Chunks:
    """The stream of a chunked body. Its methods raise `http.client.HTTPException` if the framing of the body exceeds
    what the payload allows. The framing is what `http.client` and urllib3 read line by line: sizes of chunks, chunk
    extensions and trailers. Attributes that this class does not define are those of `stream`."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._excess = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def readline(self, limit: int = -1) -> bytes:
        line = self._stream.readline(limit)
        self._count(len(line), 0)
        return line

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._count(0, len(data))
        return data

    def read1(self, size: int = -1) -> bytes:
        data = self._stream.read1(size)
        self._count(0, len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._count(0, count)
        return count

    def _count(self, framing: int, payload: int) -> None:
        self._excess = excess(self._excess, framing, payload)
        if self._excess > FRAMING_GRACE_BYTES:
            raise http.client.HTTPException("The media server sent too many bytes of chunk framing.")


def _read_head(stream: io.BufferedIOBase, left: int) -> tuple[bytes, int]:
    """Skip empty lines, and read one head. The empty lines and the head together may have at most `left` bytes. Returns
    the head, and `left` minus the number of bytes read. Raises BadHead if they have more."""
    head = b""
    while line := stream.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise BadHead("The media server sent response headers that are too large.")
        if line.strip(b"\r\n"):
            head += line
        elif head:
            break
    return head, left


def install() -> None:
    """Use `TolerantResponse` for all connections of this process, including those of urllib3."""
    http.client.HTTPConnection.response_class = TolerantResponse


def refuse_cut(response: object) -> None:
    """Make `read` of `response` raise `ssl.SSLEOFError` if the TLS connection ends without close_notify (RFC 8446
    §6.1). By default, Python treats such an end as the end of the body, so that a truncated body of unknown length
    would look complete. Has no effect on a response without a TLS socket."""
    sock = getattr(response, "sock", None)
    if isinstance(sock, ssl.SSLSocket):
        sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # typeshed lacks the attribute `suppress_ragged_eofs`
