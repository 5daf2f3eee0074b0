"""Requests that look like those of a browser. curl_cffi sends them, and is loaded when the first request needs it.
curl_cffi takes 3 MB, and most pages do not need it. `hide` keeps yt-dlp from loading curl_cffi when yt-dlp is imported;
`handler` loads curl_cffi later, once per process.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Maximum size, in bytes, of a response. The limit is necessary because curl_cffi buffers everything that the site
sends, even if yt-dlp does not read it."""
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

    class CurlCFFIRH(handler):  # type: ignore[misc]  # yt-dlp is untyped, and derives the handler's key from this name
        def _get_instance(self, **kwargs: Any) -> Any:
            from curl_cffi import CurlOpt

            session = super()._get_instance(**kwargs)
            # curl_cffi resets the options after each request, and yt-dlp calls this method before each request
            session.curl.setopt(CurlOpt.MAXFILESIZE_LARGE, MAX_BODY_BYTES)
            return session

    return CurlCFFIRH
