"""Slim YoutubeDL instances: one for each extraction or download, which is cheap to make and is always closed.

An ordinary YoutubeDL instance takes 50–150 ms to make. Therefore all instances of the process share the classes of
extractors (`extractors.py`), the TLS context (`handlers.py`) and the other values that `prepare.py` made. Each instance
has its own parameters, cookie jar and request handlers.

Every connection goes through the filtering proxy, regardless of the page, the extractor and the environment. `prepare`
must run before this module is used.
"""

from __future__ import annotations

import functools
import http.cookiejar
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yt_dlp
from yt_dlp import YoutubeDL
from yt_dlp.compat import urllib_req_to_req
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.networking import Request
from yt_dlp.networking.common import _RH_PREFERENCES
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.networking.impersonate import ImpersonateTarget
from yt_dlp.utils import DownloadError

from serverpy.errors import TooLarge
from serverpy.extraction.messages import WorkerOptions
from serverpy.extraction.sites import Sites
from serverpy.extras import IMPERSONATE
from serverpy.options import Identity
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.m3u8 import begin_with_header
from serverpy.ytdlp.session import impersonation
from serverpy.ytdlp.session.cache import SectionCache
from serverpy.ytdlp.session.cookies import cookies_of_file, copy_cookies
from serverpy.ytdlp.session.extractors import GenericIE, first_suitable, permitted
from serverpy.ytdlp.session.handlers import DataRH, SharedRequestsRH
from serverpy.ytdlp.session.log import Log
from serverpy.ytdlp.shared import shared

MAX_ENTRIES = 1000
MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Maximum decompressed size, in bytes, of a response that an extractor reads into memory. A page that consists only of
links takes ninety times its size in memory, and yt-dlp holds the interpreter lock while it searches the page.
JavaScript players have about 3 MB, manifests about 2 MB."""
MAX_FAILED_ENTRIES = 25
_READ_BYTES = 64 * 1024

# The last choice is `all`, so that yt-dlp also finds a format in a post with only images. Without a format selector,
# yt-dlp would start ffmpeg to query its features.
FORMAT = "bestvideo*+bestaudio/best/all"


class Instance(YoutubeDL):  # type: ignore[misc]  # yt-dlp is untyped
    """A YoutubeDL for one thread. If the cancellation event `ticket` is set, the instance stops at the next request, or
    while it reads a response. If `extracts` is False, the instance loads no extractors, which saves memory in a process
    that only downloads."""

    def __init__(
        self, params: dict[str, Any], proxy: str, ticket: Ticket, cookies: YoutubeDLCookieJar, *, extracts: bool
    ) -> None:
        self.ticket = ticket
        self.failures = 0
        self.first_failure: BaseException | None = None
        self.has_parts = False
        """Whether an extractor has returned the first part of a video of several parts (`parts.py`)."""
        self.lists_parts = False
        """Whether extractors return a playlist of the parts of such a video."""
        self.__dict__["cookiejar"] = cookies
        self._proxy = proxy
        self._lacks_impersonation = False
        super().__init__({**params, "logger": Log(), "proxy": proxy}, auto_init=False)
        self.cache = SectionCache(self)
        self.__dict__["_js_runtimes"] = shared().js_runtimes
        self._outside = shared().places.outside
        self._classes: Mapping[str, Any] = {}
        self._ies: dict[str, Any] = {}
        if extracts:
            self._add_extractors(shared().options.sites)

    def _add_extractors(self, sites: Sites) -> None:
        extractors = permitted(sites)
        self.embeds = extractors.embeds
        self._classes = extractors.classes
        self._ies = dict(extractors.classes)
        if sites.may_run(GenericIE.IE_NAME):
            self.add_info_extractor(GenericIE())  # replace yt-dlp's own generic extractor

    def get_info_extractor(self, ie_key: str) -> Any:
        """Return the extractor for `ie_key` as yt-dlp does, but of the class that `permitted` returns. Does not change
        `_ies`, because yt-dlp may be iterating over it."""
        if ie_key not in self._ies_instances:
            kind = self._classes.get(ie_key) or yt_dlp.extractor.get_info_extractor(ie_key)
            self._ies_instances[ie_key] = ie = kind()
            ie.set_downloader(self)
        return self._ies_instances[ie_key]

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        return super().build_request_director([SharedRequestsRH, DataRH], preferences)

    def _load_impersonation(self) -> None:
        """Add the handler for impersonation to this session, if curl_cffi can be loaded."""
        director = self._request_director
        if "CurlCFFI" in director.handlers or (kind := impersonation.handler()) is None:
            return
        (handler,) = super().build_request_director([kind]).handlers.values()
        if (bundle := shared().bundle) is not None:
            handler.verify = str(bundle)
        director.add_handler(handler)
        director.preferences.update(_RH_PREFERENCES)

    def _get_available_impersonate_targets(self) -> Any:
        self._load_impersonation()
        return super()._get_available_impersonate_targets()

    def _impersonate_target_available(self, target: Any) -> Any:
        self._load_impersonation()
        return super()._impersonate_target_available(target)

    def _parse_impersonate_targets(self, impersonate: Any) -> Any:
        """Return the available and the requested impersonation targets. An extractor calls this method before each
        request. If curl-cffi is not installed, the extractor then sends the request without impersonation, so this
        method records whether impersonation was requested in vain."""
        available, requested = super()._parse_impersonate_targets(impersonate)
        self._lacks_impersonation = bool(requested) and available is None and bool(IMPERSONATE.missing)
        return available, requested

    def impersonation_name(self, wish: Any) -> str | None:
        """Return curl_cffi's name for the impersonation target `wish` of a format. If `wish` is None, the target in the
        setting IMPERSONATE applies. Returns None if neither is set, or if curl_cffi does not support the target."""
        target = self._parse_impersonate_targets(wish)[0] if wish is not None else self.params.get("impersonate")
        if target is None:
            return None
        for handler in self._request_director.handlers.values():
            if handler.RH_KEY == "CurlCFFI" and (found := handler._resolve_target(target)):
                return str(handler._SUPPORTED_IMPERSONATE_TARGET_MAP[found])
        return None

    def urlopen(self, req: Any) -> Any:
        """Send a request through the filtering proxy. Extractors and yt-dlp's own downloaders send all their requests
        by this method."""
        self.ticket.check()
        if isinstance(req, urllib.request.Request):
            req = urllib_req_to_req(req)
        request = Request(req) if isinstance(req, str) else req
        request.headers.pop("Ytdl-Request-Proxy", None)
        request.proxies = {"all": self._proxy}
        if request.extensions.get("impersonate") is not None:
            self._load_impersonation()
        try:
            response = self._outside(super().urlopen, request)
        except HTTPError as error:
            self.ticket.check()
            self._watched(error.response)
            error.lacks_impersonation = self._lacks_impersonation
            raise
        except RequestError:
            self.ticket.check()
            raise
        self.ticket.check()
        return self._watched(response)

    def _watched(self, response: Any) -> Any:
        """Change the method `read` of the response in three ways: it raises `Stopped` if the extraction or download is
        cancelled, it limits the size of a body that is read as a whole, and it removes empty lines and a byte order
        mark before EXTM3U."""
        read, is_first = response.read, True

        def read_part(amt: int) -> bytes:
            nonlocal is_first
            part = self._outside(read, amt)
            part, is_first = (begin_with_header(part) if is_first else part), False
            return part

        def read_all() -> bytes:
            parts, total = [], 0
            while part := read_part(_READ_BYTES):
                self.ticket.check()
                total += len(part)
                if total > MAX_PAGE_BYTES:
                    raise TooLarge(
                        f"The page is larger than {MAX_PAGE_BYTES >> 20} MiB, which is too large to search for media."
                    )
                parts.append(part)
            return b"".join(parts)

        def read_some(amt: int | None = None) -> bytes:
            self.ticket.check()
            return read_all() if amt is None or amt < 0 else read_part(amt)

        response.read = read_some
        return response

    def trouble(self, message: str | None = None, tb: Any = None, is_error: bool = True) -> None:
        """Handle a failure. The failure of an item of a playlist is ignored until more than MAX_FAILED_ENTRIES items
        have failed. Any other failure is raised."""
        in_playlist = bool(self._playlist_level)
        if is_error and in_playlist:
            self.failures += 1
            self.first_failure = self.first_failure or sys.exc_info()[1] or DownloadError(message)
        self.params["ignoreerrors"] = in_playlist and self.failures <= MAX_FAILED_ENTRIES
        try:
            super().trouble(message, tb, is_error)
        finally:
            self.params["ignoreerrors"] = "only_download"

    def _forceprint(self, key: str, info_dict: Any) -> None:
        """Set the field `epoch`, as yt-dlp does, but print nothing. Before it prints, yt-dlp would make the tables of
        formats and subtitles, which takes half of the time for a page with many formats."""
        if info_dict is not None:
            info_dict.setdefault("epoch", int(time.time()))

    def extract_info(self, url: str, download: bool = True, ie_key: str | None = None, **more: Any) -> Any:
        """Extract `url` as yt-dlp does, but search for the extractor with `first_suitable`, which is faster."""
        if not ie_key and not more.get("force_generic_extractor"):  # yt-dlp forces it only if there is no key
            ie_key = first_suitable(url)
        return super().extract_info(url, download, ie_key, **more)

    def process_ie_result(self, ie_result: Any, download: bool = True, extra_info: Any = None) -> Any:
        self.ticket.check()
        return super().process_ie_result(ie_result, download, extra_info)


@contextmanager
def open(
    options: WorkerOptions,
    cookies: http.cookiejar.CookieJar | None = None,
    cancelled: threading.Event | None = None,
    *,
    extracts: bool = True,
) -> Iterator[Instance]:
    """Open a session: an instance with its own parameters, proxy and cookie jar, until the end of the context. The jar
    contains copies of `cookies` or, if `cookies` is None, of the cookies in COOKIES_FILE, which is never written. If
    `cancelled` is a `Ticket`, `cancelled.set()` also aborts the connections of the session. A plain event is only
    checked between operations. `extracts` states whether the session extracts pages. Raises `Stopped` (a BaseException)
    if `cancelled` is set."""
    ticket = Ticket.of(cancelled)
    jar = copy_cookies(cookies_of_file(options.identity.cookies_file), cookies)
    gate = shared().gate
    with (
        shared().proxies.open() as proxy,
        ticket.hook(proxy.cut),
        ticket.hook(functools.partial(gate.kill, ticket)),
        gate.on_behalf_of(ticket),
        Instance(_params(options), proxy.url, ticket, jar, extracts=extracts) as ydl,
    ):
        yield ydl


def _params(options: WorkerOptions) -> dict[str, Any]:
    """Return a new dictionary of parameters for an instance, because yt-dlp changes that dictionary."""
    return {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "color": "never",
        "cachedir": str(shared().directory / "cache"),
        "socket_timeout": min(20.0, options.timeouts.stall),
        "retries": 3,
        "fragment_retries": 3,
        "extractor_retries": 2,
        "check_formats": False,
        "format": FORMAT,
        "skip_download": True,
        "writesubtitles": True,
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "playlistend": MAX_ENTRIES + 1,
        "ignoreerrors": "only_download",
        "impersonate": _target(options.identity),
        "js_runtimes": {name: {} for name in shared().js_runtimes},
    }


def _target(identity: Identity) -> Any:
    return ImpersonateTarget.from_str(identity.impersonate.lower()) if identity.impersonate else None
