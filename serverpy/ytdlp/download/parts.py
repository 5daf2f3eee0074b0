"""Functions for the responses to yt-dlp's downloaders. The functions determine which bytes of a file a response
contains according to its head, and end the response after these bytes, even if the media server sends more. They also
decode compressed bodies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import TransportError

from serverpy.errors import UpstreamFailed
from serverpy.net.content_coding import STEP, Decoder, decoder_of
from serverpy.net.http1 import Headers
from serverpy.net.representation import Part, part_of
from serverpy.net.response_head import codings_of, is_endless
from serverpy.ranges import ByteRange, ContentRange, parse_length


class OddResponse(TransportError):  # type: ignore[misc]  # yt-dlp is untyped
    """Error: a response does not continue the file, or its body cannot be decoded. yt-dlp's code retries after this
    error as after a broken connection, because the next response may come from another server. `meaning` is the error
    to report if no retry succeeds."""

    def __init__(self, meaning: UpstreamFailed) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


def prompt(response: Response) -> Response:
    """Make `response.read` return the decoded bytes that have arrived so far, as `read1` does. By default, `read` waits
    for a whole block, which delays the bytes of a slow connection. If a connection breaks, the bytes of the unfinished
    block would also be lost, so that a download from a media server that cuts its connections early would never make
    progress.

    `read` raises `OddResponse` if a compressed body is truncated or invalid. urllib3 does not find that a body ends
    within its content coding. Has no effect on the responses of curl_cffi, which decodes the body itself. Closes
    `response` and raises `UpstreamFailed` if a coding is not supported."""
    fp = response.fp
    if not (hasattr(response, "_real_read") and hasattr(fp, "read1")):
        return response
    try:
        codings = codings_of(response.headers.get_all("Content-Encoding") or ())
        decoded = _Decoded(fp, decoder_of(codings, lambda _nbytes: None)) if codings else None
    except UpstreamFailed:
        response.close()
        raise
    response._real_read = decoded.read if decoded else lambda amt=None: fp.read1(amt, decode_content=False)
    return response


def is_compressed(response: Response) -> bool:
    return bool(codings_of(response.headers.get_all("Content-Encoding") or ()))


class _Decoded:
    """The decoded bytes of the compressed body of a urllib3 response."""

    def __init__(self, fp: Any, decoder: Decoder) -> None:
        self._fp = fp
        self._decoder = decoder
        self._left = b""
        """Decoded bytes that `read` has not returned yet."""

    def read(self, amt: int | None = None) -> bytes:
        """Return the next bytes, at most `amt`, or `b""` at the end of the body."""
        self._left = self._left or self._decode()
        most = len(self._left) if amt is None or amt < 0 else amt
        data, self._left = self._left[:most], self._left[most:]
        return data

    def _decode(self) -> bytes:
        decoder = self._decoder
        while True:
            data = self._fp.read1(STEP, decode_content=False) if decoder.wants_input else b""
            over = decoder.wants_input and not data
            try:
                if out := decoder.decode(data):
                    return out
                if over:
                    decoder.finish()
                    return b""
            except UpstreamFailed as error:
                raise OddResponse(error) from error


def first_of(value: str | None) -> int | None:
    found = re.match(r"bytes=(\d+)-", value or "")
    return int(found[1]) if found else None


def last_of(value: str | None) -> int | None:
    found = re.fullmatch(r"bytes=\d+-(\d+)", value or "")
    return int(found[1]) if found else None


def end_with(response: Response, part: Part, last: int | None) -> int | None:
    """Make the response end after the requested byte `last` or after the last byte that its own head states, whichever
    comes first. Otherwise yt-dlp would write further bytes of the media server into the file. Returns the offset in the
    file after the last byte, or None if that offset is unknown. Has no effect on a compressed body, because the head of
    its response states the length of the compressed bytes."""
    end = part.end
    if part.is_range and last is not None and (end is None or end > last + 1):
        end = last + 1
        _set_range(response, last=last)
    if end is None or is_compressed(response):
        return None
    response.read = _Ending(response.read, end - part.first).read
    return end


class _Ending:
    """The method `read` of a response, limited to `left` bytes in total."""

    def __init__(self, read: Callable[[int | None], bytes], left: int) -> None:
        self._read = read
        self._left = left

    def read(self, amt: int | None = None) -> bytes:
        most = self._left if amt is None or amt < 0 else min(amt, self._left)
        data = self._read(most) if most else b""
        self._left -= len(data)
        return data


def promise(response: Response, length: int) -> None:
    """Make the head of `response` state `length` as the number of its bytes. yt-dlp's HttpFD tries again if fewer bytes
    arrive."""
    del response.headers["Content-Length"]
    response.headers["Content-Length"] = str(length)


def hide(response: Response, count: int) -> None:
    """Change the headers of a partial response as if it began after the `count` bytes that have been read."""
    given = ContentRange.parse(response.headers.get("Content-Range"))
    assert given is not None
    _set_range(response, first=given.first + count)


def _set_range(response: Response, **changes: int) -> None:
    """Change the range in the Content-Range of a partial response by `changes`, and change the Content-Length
    accordingly."""
    before = ContentRange.parse(response.headers.get("Content-Range"))
    assert before is not None
    given = replace(before, **changes)
    response.headers.replace_header("Content-Range", str(given))
    if parse_length(response.headers.get("Content-Length")) is not None:
        response.headers.replace_header("Content-Length", str(given.last - given.first + 1))


def part_in(response: Response) -> Part:
    """Return the part of the file that a response contains. Accepts a Content-Range without the length of the file
    (`*`), because yt-dlp may have to download a range of a larger file. Raises `Unusable` if the head contradicts
    itself."""
    status, fields = response.status, Headers(response.headers.items())
    if codings_of(fields.all("content-encoding")):  # Content-Length is then the length of the compressed bytes
        fields = Headers(field for field in fields if field[0] != "content-length")
    content_range, length = fields.get("content-range"), fields.get("content-length")
    if status == 206 and is_endless(content_range, length):
        return Part(0, None, None, is_range=False)
    given = ContentRange.parse(content_range)
    if status == 206 and given is not None and given.total is None:
        return Part(given.first, given.last + 1, None, is_range=True)
    return part_of(200 if status == 203 else status, fields)


def is_just_the_window(window: ByteRange, total: int | None) -> bool:
    """Return whether the requested range is the whole file (`bytes=0-99` of 100 bytes), so that a response that ignores
    Range is correct."""
    return window.first == 0 and window.last is not None and total == window.last + 1
