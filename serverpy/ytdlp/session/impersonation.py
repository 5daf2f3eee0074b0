"""Requests that look like those of a browser. curl_cffi sends them, and is loaded when the first request needs it.
curl_cffi takes 3 MB, and most pages do not need it. `hide` keeps yt-dlp from loading curl_cffi when yt-dlp is imported;
`handler` loads curl_cffi later, once per process.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
import types
from typing import Any

from serverpy.net.bounds import FRAMING_GRACE_BYTES, excess

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Maximum size, in bytes, of a response. The limit is necessary because curl_cffi buffers everything that the site
sends, even if yt-dlp does not read it."""
PIECE_BYTES = 16 * 1024
"""Maximum size, in bytes, of a piece of a response that was joined from smaller ones."""
_NAME = "curl_cffi"
_lock = threading.Lock()


def hide() -> None:
    """Make yt-dlp treat curl_cffi as not installed. Call this before yt-dlp is imported."""
    sys.modules.setdefault(_NAME, None)  # type: ignore[arg-type]  # setting None in sys.modules is the documented way to make an import fail


def handler() -> Any | None:
    """Return yt-dlp's request handler that imitates browsers. Returns None if curl_cffi cannot be loaded. The first
    call takes 0.05 s, because it loads curl_cffi."""
    with _lock:
        if sys.modules.get(_NAME, _lock) is None:
            del sys.modules[_NAME]
        try:
            import curl_cffi
            import yt_dlp.dependencies

            yt_dlp.dependencies.curl_cffi = curl_cffi
            from yt_dlp.networking._curlcffi import CurlCFFIRH
        except ImportError:
            return None
        return _bounded(CurlCFFIRH)


@functools.cache
def _bounded(handler: Any) -> Any:
    """Return a subclass of `handler` that raises an error if a response has more than MAX_BODY_BYTES."""
    bound_transfers()

    class CurlCFFIRH(handler):  # type: ignore[misc]  # yt-dlp is untyped, and derives the handler's key from this name
        def _get_instance(self, **kwargs: Any) -> Any:
            from curl_cffi import CurlOpt

            session = super()._get_instance(**kwargs)
            # curl_cffi resets the options after each request, and yt-dlp calls this method before each request
            session.curl.setopt(CurlOpt.MAXFILESIZE_LARGE, MAX_BODY_BYTES)
            return session

    return CurlCFFIRH


def bound_transfers() -> None:
    """Bound all transfers of curl_cffi in this process: they raise an error if a body has too many bytes of chunk
    framing, and join small pieces of a body, because each piece takes far more memory than its bytes. libcurl itself
    bounds the fields of heads, interim responses and trailers, to 5,000 fields and 300 KiB, but not the extensions of
    chunks. Call this function once."""
    _bound_framing()
    _join_pieces()


class Framing:
    """The chunk framing that one transfer has received (`bounds.excess`)."""

    def __init__(self) -> None:
        self._received = self._payload = self._excess = 0

    @property
    def is_excessive(self) -> bool:
        return self._excess > FRAMING_GRACE_BYTES

    def receive(self, received: int, payload: int) -> None:
        """Count `received` bytes of the body, which are not decoded yet. All bytes before them contained `payload`
        bytes of payload."""
        more = max(0, payload - self._payload)
        self._excess = excess(self._excess, max(0, self._received - more), more)
        self._received, self._payload = received, payload


def _bound_framing() -> None:
    """Make each transfer of curl_cffi raise an error if the framing of its body is excessive."""
    from curl_cffi import Curl, CurlError, CurlInfo, CurlOpt
    from curl_cffi.const import CurlECode
    from curl_cffi.curl import CURLINFO_DATA_IN

    perform = Curl.perform

    def bounded(self: Any, *args: Any, **kwargs: Any) -> None:
        framing = Framing()

        def note(kind: int, data: bytes) -> None:
            if kind == CURLINFO_DATA_IN:
                framing.receive(len(data), self.getinfo(CurlInfo.SIZE_DOWNLOAD_T))
                if framing.is_excessive:  # this callback cannot abort the transfer, but the timeout does so at once
                    self.setopt(CurlOpt.TIMEOUT_MS, 1)

        self.setopt(CurlOpt.DEBUGFUNCTION, note)
        self.setopt(CurlOpt.VERBOSE, 1)  # otherwise libcurl does not call `note`
        try:
            perform(self, *args, **kwargs)
        except CurlError as error:
            if framing.is_excessive:
                text = "The media server sent too many bytes of chunk framing."
                raise CurlError(text, CurlECode.WEIRD_SERVER_REPLY) from error
            raise

    Curl.perform = bounded


class JoiningQueue(queue.Queue[Any]):
    """The queue of the pieces of a response. A chunked response may have pieces of one byte, each of which takes far
    more memory than its bytes, so the queue joins small pieces."""

    def _put(self, item: Any) -> None:
        last = self.queue[-1] if self.queue else None
        if not isinstance(item, bytes):
            super()._put(item)
        elif isinstance(last, bytearray) and len(last) + len(item) <= PIECE_BYTES:
            last += item
        else:
            super()._put(bytearray(item))


def _join_pieces() -> None:
    """Make curl_cffi keep the pieces of a response in a `JoiningQueue`."""
    import curl_cffi.requests.session as session

    session.queue = types.SimpleNamespace(**{**vars(queue), "Queue": JoiningQueue})
