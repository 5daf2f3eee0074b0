"""Replacements for the YoutubeDL object that yt-dlp's downloaders use. The replacements make the same requests, but
limit and check the responses, and can be stopped.

A `MediaRequests` belongs to one download: its `urlopen` returns a response whose small body (a playlist or key) has
already been read, and its `stream` returns an open response. A `FileRequests` belongs to one file or fragment of the
download, and checks that all responses contain the same file. Both classes raise yt-dlp's own errors only if yt-dlp's
code must retry the request.
"""

from __future__ import annotations

import io
import logging
import random
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
from serverpy.extraction.values import ABSENT
from serverpy.net.heads import REFUSED_HEADER
from serverpy.net.http1 import Headers
from serverpy.net.representation import Mismatch, Part, Representation, Unusable, may_be_range
from serverpy.net.urls import split
from serverpy.ranges import ByteRange, total_of
from serverpy.ytdlp.download.parts import (
    OddResponse,
    end_with,
    first_of,
    hide,
    is_compressed,
    is_just_the_window,
    last_of,
    part_in,
    promise,
    prompt,
)
from serverpy.ytdlp.download.sink import OneFile
from serverpy.ytdlp.http_client import refuse_cut
from serverpy.ytdlp.stop import Stop

log = logging.getLogger(__name__)

SMALL_BYTES = 8 * 1024 * 1024
"""Maximum size, in bytes, of a playlist or key. The playlist of a stream of 24 hours has about 2 MiB, so a playlist
above the maximum is an attack or an error."""
IMPERSONATED_BYTES = 1024 * 1024
"""Size, in bytes, of the ranges that curl_cffi requests. The ranges are small, because curl_cffi buffers a whole body
if the reader is slow."""
IMPERSONATED_WHOLE_BYTES = 4 * IMPERSONATED_BYTES
"""Maximum size, in bytes, of a file that curl_cffi fetches if the media server ignores Range."""
PIECE_BYTES = 65536
BACK_OFF = (0.2, 0.5, 1.0)
MAX_STANDSTILLS = 8
MAX_SMALL_PARTS = 64
"""Maximum number of responses for one file that have less than PIECE_BYTES new bytes, although their heads state no
more. Every other response has at least PIECE_BYTES, so the length of the file limits the number of requests."""


def translate(error: BaseException) -> ServerPYError:
    """Return the ServerPYError for a network error of yt-dlp. The message of the result contains no URL and no IP
    address."""
    if isinstance(error, ServerPYError):
        return error
    if isinstance(error, OddResponse):
        return error.meaning
    if isinstance(error, HTTPError):
        refused = refusal(error.response.headers.get(REFUSED_HEADER), OF_MEDIA)
        return refused or UpstreamFailed(f"The media server responded with HTTP status {error.status}.")
    if isinstance(error, ProxyError) and (refused := refused_tunnel(str(error), OF_MEDIA)):
        return refused
    if _timed_out(error):
        return UpstreamTimeout("The media server did not respond in time.")
    if isinstance(error, CertificateVerifyError):
        return UpstreamFailed("The media server's certificate is not valid.")
    if isinstance(error, ContentTooShortError):
        return UpstreamFailed("The media server ended the body too early.")
    if isinstance(error, RequestError):
        return UpstreamFailed("The connection to the media server failed.")
    return UpstreamFailed(f"Yt-dlp's downloader could not fetch the media ({type(error).__name__}).")


class EndOfFile(Exception):  # no error
    """The file ends before the end of the window. HttpFD passes this exception on."""


def _timed_out(error: BaseException) -> bool:
    """Return whether the error or one of its causes is a timeout. The timeouts of urllib3 and curl_cffi are recognised
    by the name of the type or by the text, and yt-dlp stores the error of these libraries as `cause`."""
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
    """The requests of one download. Attributes that this class does not define are those of the YoutubeDL of the
    download."""

    def __init__(self, ydl: Any, stop: Stop) -> None:
        self._ydl = ydl
        self.stop = stop
        self.always_impersonates = bool(ydl.params.get("impersonate"))
        self._file = "", Representation()
        self.has_begun = False
        """Whether a file of the download has arrived completely, so that a later refusal may be temporary."""
        self.spare = 0
        """Number of bytes to request beyond the end of a range: 1 if the media server leaves out the last byte."""
        self.small_was_framed = False
        """Whether the latest response to `urlopen` stated where its body ends (by its length, by chunks, or by its
        content coding). If it did not, the body may have been truncated."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ydl, name)

    def impersonates(self, request: Request) -> bool:
        return self.always_impersonates or request.extensions.get("impersonate") is not None

    def known(self, url: str) -> Representation:
        """Return the facts that the responses have stated about the file at `url`. Only the facts about the latest file
        are kept."""
        if url != self._file[0]:
            self._file = url, Representation()
        return self._file[1]

    def stream(self, request: Request) -> Response:
        """Send `request`, and return the open response, which the caller must close. Raises `TargetForbidden` if the
        filtering proxy refuses the address, because no retry can change that, `UpstreamFailed` if the body has an
        unsupported content coding, and yt-dlp's own error if the request fails for another reason."""
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
        prompt(response)
        if self.stop.is_set:
            response.close()
        self.stop.check()
        return response

    def urlopen(self, request: Request | str) -> Response:
        """Return a response whose small body is already read. yt-dlp's downloaders fetch playlists and keys by this
        method. The method sends a request at most three times."""
        request = Request(request) if isinstance(request, str) else request
        for delay in (*BACK_OFF[:2], None):
            try:
                return self._small(request.copy())
            except (TransportError, HTTPError) as error:
                if delay is None or not self._is_transient(error):
                    raise translate(error) from error
                self.stop.pause(delay)
        raise AssertionError("unreachable: the last try returns or raises")

    def _is_transient(self, error: TransportError | HTTPError) -> bool:
        return self.has_begun or not isinstance(error, HTTPError) or error.status == 429 or error.status >= 500

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
        if is_compressed(response):  # curl_cffi does not find that a body ends within its content coding
            self.small_was_framed = not self.impersonates(request)
        return Response(io.BytesIO(bytes(body)), response.url, response.headers, response.status)


class FileRequests:
    """The requests for one file, which yt-dlp's HttpFD fetches by one or more requests into `file`. This class closes
    the responses that `urlopen` has returned, because HttpFD does not.

    If `window` is True, the file is itself a range of a larger file, and the media server must honour Range. If
    `may_be_absent` is True, the file possibly does not exist. A request asks for at most `chunk_bytes` bytes unless
    `chunk_bytes` is 0. HttpFD's own option for this is of no use, because HttpFD takes a part that is shorter than
    requested for the whole file, and requests the bytes of a window without end. Instead, each response states the
    length of the rest of the file, so that HttpFD tries again after a part as after a cut.

    After `resume`, the next request begins up to TAIL_BYTES before the position where the last response broke off, and
    the bytes that arrive twice are compared. Each response must belong to the file that is read, by the rules of
    `net/representation.py`. If a response does not, `urlopen` raises `OddResponse`, because HttpFD would join the
    response with the others. It does the same for a status of 400 to 499 once the download has begun, because yt-dlp's
    code would not retry. It raises `UpstreamFailed` if no other response would help.
    """

    def __init__(
        self, requests: MediaRequests, file: OneFile, *, window: bool, may_be_absent: bool = False, chunk_bytes: int = 0
    ) -> None:
        self._requests = requests
        self._file = file
        self._window = window
        self._may_be_absent = may_be_absent
        self._chunk_bytes = chunk_bytes
        self._window_first: int | None = None
        self._window_bytes: int | None = None
        self._known: Representation | None = None
        self._response: Response | None = None
        self._resuming = False
        self._last_given = -1
        self._standstills = 0
        self._requested_end: int | None = None
        """The offset after the last byte that the latest request asked for, or None if it asked for all bytes."""
        self._stated_end: int | None = None
        """The offset after the last byte that the latest response was to contain, or None if that is unknown."""
        self._small_parts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)

    @property
    def total(self) -> int | None:
        """The length, in bytes, of the file or, if `window` is True, of the range. None if no response has stated it
        yet."""
        if self._window:
            return self._window_bytes
        return None if self._known is None else self._known.total

    def resume(self) -> None:
        """Record that the last request failed, so that the next request resumes."""
        self._resuming = True

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def ended_early(self) -> bool:
        """Return whether the latest response ended where its head states, or one byte before the requested end, so that
        the next request asks for the rest of the file, and no failure has to be repaired. Raises `UpstreamFailed` after
        MAX_SMALL_PARTS small parts."""
        reached, new_bytes = (self._window_first or 0) + self._file.position, self._file.given - self._last_given
        if new_bytes <= 0 or self._file.position != self._file.given or self._stated_end is None:
            return False
        if reached == self._requested_end:
            return True
        if reached + 1 == self._requested_end:  # some media servers take the end of a range as exclusive
            self._requests.spare = 1
        elif reached != self._stated_end:
            return False
        self._small_parts += new_bytes < PIECE_BYTES
        if self._small_parts > MAX_SMALL_PARTS:
            raise UpstreamFailed("The media server repeatedly sends less of the media than requested.")
        return True

    def urlopen(self, request: Request) -> Response:
        self.close()
        self._count_standstills()
        self._stated_end = None
        request = request.copy()  # HttpFD uses the same header fields for its next request
        asked, last = first_of(request.headers.get("Range")), last_of(request.headers.get("Range"))
        overlap = self._file.tail if asked and self._resuming else b""
        if self._window and self._window_first is None:
            self._window_first = asked
        chunk_last = self._limit(request, asked, last, len(overlap))
        response = self._response = self._stream(request)
        part = self._check(request, response, (asked or 0) - len(overlap), last)
        end = self._stated_end = end_with(response, part, chunk_last)
        if overlap and part.is_range:
            self._compare(response, overlap)
            hide(response, len(overlap))
        if part.is_range and end is not None and end <= (asked or 0):
            raise OddResponse(UpstreamFailed("The media server sent no new byte of the media."))
        target = self._target(last)
        if self._window and target is not None:
            self._window_bytes = target - (self._window_first or 0)
        if end is not None and target is not None:
            promise(response, target - ((asked or 0) if part.is_range else 0))
        self._resuming = False
        return response

    def _limit(self, request: Request, asked: int | None, last: int | None, overlap: int) -> int | None:
        """Change the Range of `request`, which asks for the bytes `asked` to `last`, so that it begins `overlap` bytes
        earlier and asks for at most `chunk_bytes` bytes. Returns the last byte to read, or None for all bytes."""
        first = asked or 0
        if self._chunk_bytes:
            length = max(1, random.randint(int(self._chunk_bytes * 0.95), self._chunk_bytes))  # as yt-dlp does
            target = self._target(last)
            last = first + length - 1 if target is None or target <= first else min(first + length, target) - 1
        self._requested_end = None if last is None else last + 1
        if asked is not None or last is not None:
            sent_last = None if last is None else last + self._requests.spare
            request.headers["Range"] = str(ByteRange(first - overlap, sent_last))
        return last

    def _target(self, last: int | None) -> int | None:
        """Return the offset in the file at which the download ends, or None if that offset is unknown. `last` is the
        last byte of the window."""
        total = None if self._known is None else self._known.total
        ends = [each for each in (None if last is None else last + 1, total) if each is not None]
        return min(ends, default=None)

    def _stream(self, request: Request) -> Response:
        try:
            response = self._requests.stream(request)
        except HTTPError as error:
            if self._is_at_end(error):
                self._window_bytes = self._file.given
                raise EndOfFile from error
            if not self._may_pass(error):
                raise
            raise OddResponse(UpstreamFailed(str(translate(error)))) from error
        if self._requests.impersonates(request) and is_compressed(response):
            response.close()  # curl_cffi does not find that a body ends within its content coding
            raise UpstreamFailed("The media needs browser impersonation, but the media server compressed it.")
        return response

    def _is_at_end(self, error: HTTPError) -> bool:
        """Return whether `error` states that the file ends at the last byte read, before the end of the window."""
        reached = (self._window_first or 0) + self._file.given
        is_later = self._window and self._file.given > 0 and self._file.position == self._file.given
        return is_later and error.status == 416 and total_of(error.response.headers.get("Content-Range")) == reached

    def _may_pass(self, error: HTTPError) -> bool:
        """Return whether the next response to the same request may have another status than `error`, although yt-dlp's
        code would give up. yt-dlp itself retries after a status of 500 or more, and after a 416 without Range."""
        has_begun = self._requests.has_begun or self._file.given > 0
        is_absent = self._may_be_absent and not self._file.given and error.status in ABSENT
        is_of_server = error.response.headers.get(REFUSED_HEADER) is None  # the filtering proxy sends this field
        return has_begun and not is_absent and is_of_server and error.status < 500 and error.status != 416

    def _compare(self, response: Response, overlap: bytes) -> None:
        seen = b""
        while len(seen) < len(overlap) and (piece := response.read(len(overlap) - len(seen))):
            seen += piece
        if seen != overlap:
            raise OddResponse(Mismatch())

    def _count_standstills(self) -> None:
        if self._file.given != self._last_given:
            self._last_given, self._standstills = self._file.given, 0
        self._standstills += 1
        if self._standstills > MAX_STANDSTILLS:
            raise UpstreamFailed("The media server repeatedly responds without sending any new byte.")

    def _check(self, request: Request, response: Response, first: int, last: int | None) -> Part:
        """Return the part of the file that `response` contains, whose first byte must be `first`. `last` is the last
        byte of the window."""
        try:
            part = part_in(response)
            if part.is_range and part.first != first:
                raise Unusable("The media server sent a different range than requested.")
            if not part.is_range:
                self._check_whole(request, part, ByteRange(first, last))
            self._learn(request, response, part)
            if part.is_range and self._target(last) is None and "Range" in request.headers:
                raise Unusable("The media server sent a part of the media without stating the length of the media.")
        except (Unusable, Mismatch) as error:
            raise OddResponse(error) from error
        return part

    def _check_whole(self, request: Request, part: Part, window: ByteRange) -> None:
        value = request.headers.get("Range")
        sent = None if first_of(value) is None else ByteRange(first_of(value), last_of(value))
        if self._window and not is_just_the_window(window, part.total):
            raise UpstreamFailed("The media is a byte range of a file, but the media server ignores Range requests.")
        if not self._window and may_be_range(part, sent, None if self._known is None else self._known.total):
            raise Unusable("The media server did not state which part of the media it sent.")
        self._limit_impersonated(request, part.total)

    def _learn(self, request: Request, response: Response, part: Part) -> None:
        if self._known is None:
            self._known = self._requests.known(request.url) if self._window else Representation()
        self._known.learn(part.total, Headers(response.headers.items()), split(response.url)[0])

    def _limit_impersonated(self, request: Request, total: int | None) -> None:
        if self._requests.impersonates(request) and (total is None or total > IMPERSONATED_WHOLE_BYTES):
            raise UpstreamFailed("The media needs browser impersonation, but the media server ignores Range requests.")
