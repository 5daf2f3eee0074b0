"""The request handlers of a yt-dlp session: `requests` for http and https, with one TLS context for the process, and a
handler for `data:` URLs. yt-dlp's own handler sends impersonated requests. The other schemes that yt-dlp supports (ftp,
files, web sockets) have no handler, so requests for them fail."""

from __future__ import annotations

import ssl
import threading

from yt_dlp.networking._requests import RequestsRH
from yt_dlp.networking._urllib import UrllibRH

from serverpy.ytdlp.shared import shared

_contexts: dict[bool, ssl.SSLContext] = {}
_contexts_lock = threading.Lock()


class SharedRequestsRH(RequestsRH):  # type: ignore[misc]  # yt-dlp is untyped
    """Handler for http and https. All handlers in the process share one TLS context, because each context costs 40 ms
    and 0.7 MB."""

    def _make_sslcontext(self, legacy_ssl_support: bool | None = None) -> ssl.SSLContext:
        with _contexts_lock:
            legacy = bool(legacy_ssl_support)
            if legacy not in _contexts:
                context = super()._make_sslcontext(legacy_ssl_support)
                if ca_file := shared().options.network.ca_file:
                    context.load_verify_locations(cafile=ca_file)
                _contexts[legacy] = context
            return _contexts[legacy]


class DataRH(UrllibRH):  # type: ignore[misc]  # yt-dlp is untyped
    """Handler for `data:` URLs, which extractors request. The handler does not support the other schemes of urllib,
    because ftp would bypass the filtering proxy."""

    _SUPPORTED_URL_SCHEMES = ("data",)

    def _make_sslcontext(self, legacy_ssl_support: bool | None = None) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
