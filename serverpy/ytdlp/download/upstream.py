"""A replacement for the YoutubeDL that yt-dlp's downloaders use: the same requests, but bounded, checked and stoppable.

`MediaRequests` belongs to one download: `urlopen` returns a small body as a whole (a playlist, a key), `stream` an open
response. `FileRequests` belongs to one file or fragment of the download, and checks that all responses contain the same
file. Both raise yt-dlp's own errors only where yt-dlp's retries must see them.
"""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from typing import Any

from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    ProxyError,
    RequestError,
    TransportError,
)
from yt_dlp.utils import ContentTooShortError

from serverpy.errors import ServerPYError, TargetForbidden, TooLarge, UpstreamFailed, UpstreamTimeout
from serverpy.extraction.error_text import OF_MEDIA, refusal, refused_tunnel
from serverpy.net.content_coding import codings_of
from serverpy.net.heads import REFUSED_HEADER
from serverpy.net.response_head import is_endless
from serverpy.ranges import ContentRange, parse_length
from serverpy.ytdlp.download.sink import OneFile
from serverpy.ytdlp.http_client import refuse_cut
from serverpy.ytdlp.stop import Stop

log = logging.getLogger(__name__)

SMALL_BYTES = 8 * 1024 * 1024
"""Maximum size of a playlist or key. The playlist of a stream of 24 hours has about 2 MiB, so a playlist above the
maximum is an attack or an error."""
IMPERSONATED_BYTES = 1024 * 1024
"""Size of the ranges that curl_cffi requests, because curl_cffi buffers a body without a limit, even if the reader is
slow."""
IMPERSONATED_WHOLE_BYTES = 4 * IMPERSONATED_BYTES
"""Maximum size of a file that curl_cffi fetches if the server ignores Range."""
PIECE_BYTES = 65536
BACK_OFF = (0.2, 0.5, 1.0)
MAX_STANDSTILLS = 8


def translate(error: BaseException) -> ServerPYError:
    """Return the ServerPYError for a network error of yt-dlp's, with a message that contains no address and no
    query."""
    if isinstance(error, ServerPYError):
        return error
    if isinstance(error, HTTPError):
        refused = refusal(error.response.headers.get(REFUSED_HEADER), OF_MEDIA)
        return refused or UpstreamFailed(f"The media server answered {error.status}.")
    if isinstance(error, ProxyError) and (refused := refused_tunnel(str(error), OF_MEDIA)):
        return refused
    if _timed_out(error):
        return UpstreamTimeout("The media server did not answer in time.")
    if isinstance(error, CertificateVerifyError):
        return UpstreamFailed("The media server's certificate is not valid.")
    if isinstance(error, ContentTooShortError):
        return UpstreamFailed("The media server ended the body too early.")
    if isinstance(error, RequestError):
        return UpstreamFailed("The connection to the media server failed.")
    return UpstreamFailed(f"Yt-dlp's downloader failed ({type(error).__name__}).")


def _timed_out(error: BaseException) -> bool:
    """Return whether the error or one of its causes is a timeout. urllib3 and curl_cffi report a timeout by type name
    and text; yt-dlp keeps their error as `cause`."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, TimeoutError) or "Timeout" in type(seen).__name__ or "timed out" in str(seen):
            return True
        cause = getattr(seen, "cause", None)
        seen = cause if isinstance(cause, BaseException) else seen.__cause__ or seen.__context__
    return False


class MediaRequests:
    """The requests of one download. All attributes that are not defined here are those of the download's YoutubeDL."""

    def __init__(self, ydl: Any, stop: Stop) -> None:
        self._ydl = ydl
        self.stop = stop
        self.always_impersonates = bool(ydl.params.get("impersonate"))
        self.small_was_framed = False
        """Whether the latest response to `urlopen` stated where its body ends. If not, the body may have been cut."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ydl, name)

    def impersonates(self, request: Request) -> bool:
        return self.always_impersonates or request.extensions.get("impersonate") is not None

    def stream(self, request: Request) -> Response:
        """Return an open response, which the caller closes. Raises `TargetForbidden` if the proxy refuses the target,
        which no retry can change, and yt-dlp's own error if the request fails for another reason."""
        self.stop.check()
        try:
            response = self._ydl.urlopen(request)
        except (HTTPError, ProxyError) as error:
            if isinstance(error, HTTPError):
                error.close()
            self.stop.check()
            if isinstance(translated := translate(error), TargetForbidden):
                raise translated from error
            raise
        refuse_cut(getattr(response.fp, "_fp", None))
        if self.stop.is_set:
            response.close()
        self.stop.check()
        return response

    def urlopen(self, request: Request | str) -> Response:
        """Return a response whose small body is already read: downloaders fetch playlists and keys in this way. Tries
        at most three times."""
        request = Request(request) if isinstance(request, str) else request
        for delay in (*BACK_OFF[:2], None):
            try:
                return self._small(request.copy())
            except (TransportError, HTTPError) as error:
                transient = not isinstance(error, HTTPError) or error.status == 429 or error.status >= 500
                if delay is None or not transient:
                    raise translate(error) from error
                self.stop.pause(delay)
        raise AssertionError("the last try returns or raises")

    def _small(self, request: Request) -> Response:
        response = self.stream(request)
        try:
            body = bytearray()
            while piece := response.read(PIECE_BYTES):
                self.stop.check()
                body += piece
                if len(body) > SMALL_BYTES:
                    raise TooLarge("A playlist or key of the media is too large.")
        finally:
            response.close()
        coding = response.headers.get("Transfer-Encoding") or ""
        self.small_was_framed = "chunked" in coding.lower() or response.headers.get("Content-Length") is not None
        return Response(io.BytesIO(bytes(body)), response.url, response.headers, response.status)


class FileRequests:
    """The requests for one file, which HttpFD fetches in one or several requests into `file`. Closes the responses that
    it returned, because HttpFD does not.

    `window` is True if the file is itself a range of a larger file; the server must then honour Range. After `resume`,
    the next request begins shortly before the position where the last one broke off, and the bytes that arrive twice
    are compared. Raises `UpstreamFailed` if a response has different bytes, a different total length or a different
    offset than expected, because HttpFD would join such parts.
    """

    def __init__(self, requests: MediaRequests, file: OneFile, *, window: bool) -> None:
        self._requests = requests
        self._file = file
        self._window = window
        self._total: int | None = None
        self._response: Response | None = None
        self._resuming = False
        self._last_position = -1
        self._standstills = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)

    @property
    def total(self) -> int | None:
        """The length of the file, once a server has stated it."""
        return None if self._window else self._total

    def resume(self) -> None:
        """Record that the last request failed."""
        self._resuming = True

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def urlopen(self, request: Request) -> Response:
        self.close()
        self._count_standstills()
        asked, overlap = _first_of(request.headers.get("Range")), b""
        if asked and self._resuming:
            overlap = self._file.tail
            request.headers["Range"] = _moved(request.headers["Range"], asked - len(overlap))
        response = self._response = _prompt(self._requests.stream(request))
        self._check(request, response, (asked or 0) - len(overlap))
        if overlap and response.status == 206:
            self._compare(response, overlap)
            _hide(response, len(overlap))
        self._resuming = False
        return response

    def _compare(self, response: Response, overlap: bytes) -> None:
        seen = b""
        while len(seen) < len(overlap) and (piece := response.read(len(overlap) - len(seen))):
            seen += piece
        if seen != overlap:
            raise UpstreamFailed("The media changed while it was being read.")

    def _count_standstills(self) -> None:
        if self._file.position != self._last_position:
            self._last_position, self._standstills = self._file.position, 0
        self._standstills += 1
        if self._standstills > MAX_STANDSTILLS:
            raise UpstreamFailed("The media server answers without sending anything.")

    def _check(self, request: Request, response: Response, asked: int) -> None:
        content_range = response.headers.get("Content-Range")
        if response.status == 206 and not is_endless(content_range, response.headers.get("Content-Length")):
            given = ContentRange.parse(content_range)
            if given is None or given.first != asked:
                raise UpstreamFailed("The media server sent a different range than requested.")
            total = given.total
        else:
            total = _length(response)
            if self._window and not _is_just_the_window(request, total):
                raise UpstreamFailed("The media is a byte range of a file, and its server ignores Range requests.")
            self._limit_impersonated(request, total)
        if total is not None:
            if self._total not in (None, total):
                raise UpstreamFailed("The media changed its length while it was being read.")
            self._total = total

    def _limit_impersonated(self, request: Request, total: int | None) -> None:
        if self._requests.impersonates(request) and (total is None or total > IMPERSONATED_WHOLE_BYTES):
            raise UpstreamFailed("The media needs impersonation, and its server ignores Range requests.")


def _prompt(response: Response) -> Response:
    """Make `read` return the bytes that have arrived so far, as `read1` does. Otherwise `read` waits for the whole
    block, which delays the bytes of a slow connection. If a connection breaks, the bytes of the unfinished block are
    lost, so a download from a server that cuts early would never make progress.
    """
    fp = response.fp
    if hasattr(response, "_real_read") and hasattr(fp, "read1"):
        response._real_read = lambda amt=None: fp.read1(amt, decode_content=True)
    return response


def _first_of(value: str | None) -> int | None:
    found = re.match(r"bytes=(\d+)-", value or "")
    return int(found[1]) if found else None


def _moved(value: str, first: int) -> str:
    return f"bytes={first}-{value.partition('-')[2]}"


def _hide(response: Response, count: int) -> None:
    """Make a partial response, of which `count` bytes are read, look as if it began after them."""
    given = ContentRange.parse(response.headers.get("Content-Range"))
    assert given is not None
    response.headers.replace_header("Content-Range", str(replace(given, first=given.first + count)))
    length = parse_length(response.headers.get("Content-Length"))
    if length is not None:
        response.headers.replace_header("Content-Length", str(length - count))


def _length(response: Response) -> int | None:
    # With a content coding, Content-Length counts the encoded bytes.
    is_coded = codings_of(response.headers.get_all("Content-Encoding") or ())
    return None if is_coded else parse_length(response.headers.get("Content-Length"))


def _is_just_the_window(request: Request, total: int | None) -> bool:
    """Return whether the requested range is the whole file (`bytes=0-99` of 100 bytes), so that a server may ignore
    Range."""
    found = re.fullmatch(r"bytes=0-(\d+)", request.headers.get("Range") or "")
    return bool(found) and total == int(found[1]) + 1 if found else False
