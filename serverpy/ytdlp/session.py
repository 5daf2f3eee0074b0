"""Slim yt-dlp instances: one for each extraction or download, cheap to make, always closed.

A stock instance costs 50–150 ms and, at its first page, 28 MB of extractor modules. Here the dictionary of extractor
classes is made once and copied, the TLS context is shared, and the generic extractor asks only those extractors that
can answer (`embeds.py`). Everything else is the instance's own: parameters, cookie jar, request handlers.

Every connection goes through the filtering proxy, whatever a page, an extractor or the environment says. What yt-dlp
could do beside HTTP is closed: no ftp, no files, no web sockets, no ffmpeg, no configuration files, no disk but a
private directory. `prepare` must run before anything else here, once in the life of the process.
"""

from __future__ import annotations

import copy
import functools
import http.cookiejar
import os
import re
import shutil
import ssl
import sys
import threading
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import certifi
import yt_dlp
from yt_dlp import YoutubeDL
from yt_dlp.cache import Cache
from yt_dlp.compat import urllib_req_to_req
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.extractor.generic import GenericIE as StockGenericIE
from yt_dlp.networking import Request
from yt_dlp.networking._requests import RequestsRH
from yt_dlp.networking._urllib import UrllibRH
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.networking.impersonate import ImpersonateTarget
from yt_dlp.plugins import load_all_plugins
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import DownloadError, Popen, YoutubeDLError

from serverpy.errors import ConfigurationError, SiteForbidden, TooLarge
from serverpy.extraction.messages import Ready, WorkerOptions
from serverpy.ytdlp.children import Gate, Ticket, install
from serverpy.ytdlp.embeds import embed_capable
from serverpy.ytdlp.outlets import Outlets

MAX_ENTRIES = 1000
MAX_PAGE_BYTES = 64 * 1024 * 1024
"""The most that one answer may be which an extractor reads into memory, decompressed."""
MAX_FAILED_ENTRIES = 25
_READ_BYTES = 64 * 1024
_CACHED_SECTIONS = re.compile(r"youtube-[\w-]+|challenge-solver|soundcloud|brightcove|douyu|iq")
"""What extractors may keep between extractions: players and public client ids, nothing of a visitor."""
_MAX_CACHED_FILES = 24
_PROXY_VARIABLES = re.compile(r"(?i)(?:\w+_proxy|ytdlp_no_lazy_extractors|sslkeylogfile)")

# `all` stands last so that a post of pictures alone is a result too; without a format of its own, yt-dlp would start
# ffmpeg to see what it can do.
FORMAT = "bestvideo*+bestaudio/best/all"


@dataclass(frozen=True, slots=True)
class Process:
    """What all sessions of this process share. `directory` is private to it, and removed by who made it."""

    options: WorkerOptions
    outlets: Outlets
    directory: Path
    gate: Gate
    js_runtimes: Mapping[str, Any] = field(default_factory=dict)
    bundle: Path | None = None
    """PEM file of the public authorities and CA_FILE together, where CA_FILE is set."""


_process: Process | None = None


def prepare(options: WorkerOptions, outlets: Outlets, directory: Path) -> Process:
    """Close the process's own holes, and read the extractors. Takes about a second. Raises ConfigurationError."""
    global _process
    gate = Gate(options.max_js_children)
    install(Popen, gate)
    runtimes = _find_js_runtimes()
    _close_environment(directory)
    for path in options.plugin_paths:
        yt_dlp.plugins.sys.path.append(path)
    _restrict_plugins(directory)
    _process = Process(options, outlets, directory, gate, runtimes, _write_bundle(options.ca_file, directory))
    _file_cookies(options.cookies_file)
    _check_impersonation(options)
    warm_up()
    return _process


def process() -> Process:
    """What `prepare` made."""
    if _process is None:
        raise ConfigurationError("The worker is not prepared.")
    return _process


def describe() -> Ready:
    """What this worker can do."""
    runtimes = process().js_runtimes.items()
    return Ready(
        yt_dlp=yt_dlp.version.__version__,
        js_runtimes=tuple(f"{name}-{runtime.info.version}" for name, runtime in runtimes if runtime.info.supported),
        impersonation="CurlCFFI" in yt_dlp.networking.common._REQUEST_HANDLERS,
        plugins=tuple(sorted(yt_dlp.globals.plugin_ies.value)),
    )


def _find_js_runtimes() -> dict[str, Any]:
    """yt-dlp looks beside the interpreter; a runtime elsewhere on the PATH has to be named before PATH goes."""
    path = shutil.which("deno")
    params = {"deno": {"path": path} if path and not _beside_interpreter("deno") else {}}
    runtimes = {
        name: yt_dlp.globals.supported_js_runtimes.value[name](path=config.get("path"))
        for name, config in params.items()
    }
    return {name: runtime for name, runtime in runtimes.items() if runtime.info is not None}


def _beside_interpreter(name: str) -> bool:
    return bool(os.path.dirname(yt_dlp.utils._jsruntime._find_exe(name)))


def _close_environment(directory: Path) -> None:
    """No proxy of the environment (NO_PROXY would open a way past ours), and nothing on the PATH: yt-dlp would fetch
    with ffmpeg and others by itself."""
    for name in list(os.environ):
        if _PROXY_VARIABLES.fullmatch(name):
            del os.environ[name]
    nothing = directory / "empty"
    nothing.mkdir(exist_ok=True)
    os.environ["PATH"] = str(nothing)
    for name in ("ffmpeg", "ffprobe", "avconv", "avprobe"):
        FFmpegPostProcessor._version_cache[name] = False
        FFmpegPostProcessor._features_cache[name] = {}


def _restrict_plugins(directory: Path) -> None:
    """Plugins come from `sys.path` alone, not from the configuration folders of whoever runs the server."""
    yt_dlp.plugins.default_plugin_paths = lambda: (Path(path) for path in yt_dlp.plugins.sys.path)
    yt_dlp.plugins.get_executable_path = lambda: str(directory / "empty")


def _write_bundle(ca_file: str | None, directory: Path) -> Path | None:
    """curl takes one file of authorities; Python's context can add ours to its own."""
    if ca_file is None:
        return None
    bundle = directory / "authorities.pem"
    try:
        bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + Path(ca_file).read_bytes())
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"CA_FILE cannot be read: {error}") from error
    return bundle


def warm_up() -> None:
    """The first URL of a process compiles 1,750 expressions (0.5–1 s); do it before somebody waits for it."""
    for ie in _extractors().classes.values():
        ie.suitable("https://host.invalid/")


# Extractors


@dataclass(frozen=True, slots=True)
class Extractors:
    """yt-dlp's extractors by key, in their order, and those of them that embeds can name."""

    classes: Mapping[str, Any]
    embeds: Mapping[str, Any]


@functools.cache
def _extractors() -> Extractors:
    load_all_plugins()
    stock = YoutubeDL({"quiet": True, "logger": Log(), "cachedir": False}, auto_init=False)
    stock.add_default_info_extractors()
    classes = {key: ie for key, ie in stock._ies.items() if isinstance(ie, type)}
    stock.close()
    capable = embed_capable(Path(yt_dlp.extractor.__file__).parent)
    embeds = {key: ie for key, ie in classes.items() if key in capable or not _is_stock(ie)}
    return Extractors(MappingProxyType(classes), MappingProxyType(embeds))


def _is_stock(ie: Any) -> bool:
    return str(getattr(ie, "_module", None) or ie.__module__).startswith("yt_dlp.")


@functools.cache
def _permitted(options: WorkerOptions) -> Extractors:
    """The extractors with those that may not run replaced by one that says so, and left out of the embeds."""
    known = _extractors()
    allowed = functools.partial(may_run, options)
    classes = {key: ie if allowed(ie) else _forbidden(ie) for key, ie in known.classes.items()}
    embeds = {key: ie for key, ie in known.embeds.items() if key != "Generic" and allowed(ie)}
    return Extractors(MappingProxyType(classes), MappingProxyType(embeds))


def may_run(options: WorkerOptions, ie: Any) -> bool:
    """ALLOW_SITES, DENY_SITES, GENERIC_EXTRACTOR. A name is that of an extractor (`youtube:tab`) or of the site before
    the colon (`youtube`), in any case. Where sites are named, `generic` is one that has to be named too. The generic
    extractor brings `html5` with it, which reads the plain players that it finds."""
    name = "generic" if ie.IE_NAME.lower() == "html5" else ie.IE_NAME.lower()
    if name == "generic" and not options.generic_extractor:
        return False
    if _named(name, options.deny_sites) or _named(ie.IE_NAME.lower(), options.deny_sites):
        return False
    return not options.allow_sites or _named(name, options.allow_sites)


def _named(name: str, sites: tuple[str, ...]) -> bool:
    return any(name == site.lower() or name.startswith(f"{site.lower()}:") for site in sites)


def _forbidden(ie: Any) -> Any:
    """An extractor for the same addresses, which refuses them."""

    class Forbidden(yt_dlp.extractor.common.InfoExtractor):  # type: ignore[misc]  # untyped
        IE_NAME = ie.IE_NAME
        _VALID_URL = ie._VALID_URL
        suitable = staticmethod(ie.suitable)
        ie_key = staticmethod(ie.ie_key)

        def extract(self, url: str) -> Any:
            raise SiteForbidden(f"This server does not serve {ie.IE_NAME}.")

    return Forbidden


class GenericIE(StockGenericIE):  # type: ignore[misc]  # untyped
    """Asks only the extractors that can find a player in a foreign page."""

    def _extract_embeds(self, *args: Any, **kwargs: Any) -> Any:
        everything = self._downloader._ies
        self._downloader._ies = self._downloader.embeds
        try:
            return list(super()._extract_embeds(*args, **kwargs))
        finally:
            self._downloader._ies = everything


# Request handlers

_contexts: dict[bool, ssl.SSLContext] = {}
_contexts_lock = threading.Lock()


class SharedRequestsRH(RequestsRH):  # type: ignore[misc]  # untyped
    """One TLS context for the process: each costs 40 ms and 0.7 MB."""

    def _make_sslcontext(self, legacy_ssl_support: bool | None = None) -> ssl.SSLContext:
        with _contexts_lock:
            legacy = bool(legacy_ssl_support)
            if legacy not in _contexts:
                context = super()._make_sslcontext(legacy_ssl_support)
                if ca_file := process().options.ca_file:
                    context.load_verify_locations(cafile=ca_file)
                _contexts[legacy] = context
            return _contexts[legacy]


class DataRH(UrllibRH):  # type: ignore[misc]  # untyped
    """`data:` addresses, which extractors use. All else that urllib can (ftp past the proxy) is closed."""

    _SUPPORTED_URL_SCHEMES = ("data",)

    def _make_sslcontext(self, legacy_ssl_support: bool | None = None) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _target(options: WorkerOptions) -> Any:
    return ImpersonateTarget.from_str(options.impersonate.lower()) if options.impersonate else None


def _check_impersonation(options: WorkerOptions) -> None:
    try:
        with open(options):
            pass
    except (ValueError, YoutubeDLError) as error:
        raise ConfigurationError(f"IMPERSONATE={options.impersonate!r} is no target that is available.") from error


# The instance


class Log:
    """yt-dlp's logger: keeps the last lines of errors, and writes nothing anywhere."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=20)

    def debug(self, message: str) -> None:
        """Progress and debugging: dropped."""

    def warning(self, message: str) -> None:
        """Dropped as well: what matters comes as an error."""

    def error(self, message: str) -> None:
        self.errors.append(str(message)[:1000])


class SectionCache(Cache):  # type: ignore[misc]  # untyped
    """yt-dlp's disk cache, for the named sections only and a bounded number of files."""

    def store(self, section: str, key: str, data: Any, dtype: str = "json") -> None:
        if _CACHED_SECTIONS.fullmatch(section):
            self._make_room()
            super().store(section, key, data, dtype)

    def load(self, section: str, key: str, dtype: str = "json", default: Any = None, **more: Any) -> Any:
        return super().load(section, key, dtype, default, **more) if _CACHED_SECTIONS.fullmatch(section) else default

    def _make_room(self) -> None:
        files = sorted(Path(self._get_root_dir()).glob("*/*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - _MAX_CACHED_FILES + 1)]:
            path.unlink(missing_ok=True)


class Session(YoutubeDL):  # type: ignore[misc]  # untyped
    """One instance for one thread. `ticket` tells it to stop: at the next request, or in the middle of reading one."""

    def __init__(self, params: dict[str, Any], proxy: str, ticket: Ticket, cookies: YoutubeDLCookieJar) -> None:
        self.ticket = ticket
        self.log = Log()
        self.failures = 0
        self.first_failure: BaseException | None = None
        self.__dict__["cookiejar"] = cookies
        self._proxy = proxy
        super().__init__({**params, "logger": self.log, "proxy": proxy}, auto_init=False)
        self.cache = SectionCache(self)
        self.__dict__["_js_runtimes"] = process().js_runtimes
        permitted = _permitted(process().options)
        self.embeds = permitted.embeds
        self._classes = permitted.classes
        self._ies = dict(permitted.classes)
        if may_run(process().options, StockGenericIE):
            self.add_info_extractor(GenericIE())  # in the place of the stock one

    def get_info_extractor(self, ie_key: str) -> Any:
        """As in yt-dlp, but of the permitted classes; and without a change to `_ies`, which may be iterated over."""
        if ie_key not in self._ies_instances:
            kind = self._classes.get(ie_key) or yt_dlp.extractor.get_info_extractor(ie_key)
            self._ies_instances[ie_key] = ie = kind()
            ie.set_downloader(self)
        return self._ies_instances[ie_key]

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        curl = [handler for handler in handlers if handler.RH_KEY == "CurlCFFI"]
        director = super().build_request_director([SharedRequestsRH, DataRH, *curl], preferences)
        bundle = process().bundle
        for handler in director.handlers.values():
            if handler.RH_KEY == "CurlCFFI" and bundle is not None:
                handler.verify = str(bundle)
        return director

    def impersonation_name(self, wish: Any) -> str | None:
        """curl_cffi's name for the target that a format asks for, else for that of IMPERSONATE."""
        target = self._parse_impersonate_targets(wish)[0] if wish is not None else self.params.get("impersonate")
        if target is None:
            return None
        for handler in self._request_director.handlers.values():
            if handler.RH_KEY == "CurlCFFI" and (found := handler._resolve_target(target)):
                return str(handler._SUPPORTED_IMPERSONATE_TARGET_MAP[found])
        return None

    def urlopen(self, req: Any) -> Any:
        """Every request of extractors and native downloaders passes here, and leaves by the proxy."""
        self.ticket.check()
        if isinstance(req, urllib.request.Request):
            req = urllib_req_to_req(req)
        request = Request(req) if isinstance(req, str) else req
        request.headers.pop("Ytdl-Request-Proxy", None)
        request.proxies = {"all": self._proxy}
        try:
            response = super().urlopen(request)
        except HTTPError as error:
            self.ticket.check()
            self._watched(error.response)
            raise
        except RequestError:
            self.ticket.check()
            raise
        self.ticket.check()
        return self._watched(response)

    def _watched(self, response: Any) -> Any:
        """Reading stops when the ticket says so, and a whole body has a bound."""
        read = response.read

        def read_all() -> bytes:
            parts, total = [], 0
            while part := read(_READ_BYTES):
                self.ticket.check()
                total += len(part)
                if total > MAX_PAGE_BYTES:
                    raise TooLarge("The page is too large to be searched for media.")
                parts.append(part)
            return b"".join(parts)

        def read_some(amt: int | None = None) -> bytes:
            self.ticket.check()
            return read_all() if amt is None or amt < 0 else read(amt)

        response.read = read_some
        return response

    def trouble(self, message: str | None = None, tb: Any = None, is_error: bool = True) -> None:
        """An item that fails does not fail its playlist, unless it is one of many; anything else is raised."""
        in_playlist = bool(self._playlist_level)
        if is_error and in_playlist:
            self.failures += 1
            self.first_failure = self.first_failure or sys.exc_info()[1] or DownloadError(message)
        self.params["ignoreerrors"] = in_playlist and self.failures <= MAX_FAILED_ENTRIES
        try:
            super().trouble(message, tb, is_error)
        finally:
            self.params["ignoreerrors"] = "only_download"

    def process_ie_result(self, ie_result: Any, download: bool = True, extra_info: Any = None) -> Any:
        self.ticket.check()
        return super().process_ie_result(ie_result, download, extra_info)


@contextmanager
def open(
    options: WorkerOptions,
    cookies: http.cookiejar.CookieJar | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[Session]:
    """A session with its own parameters and jar: a copy of `cookies`, else what COOKIES_FILE has (never written back).
    `cancelled` is a `Ticket`, whose `set` also cuts the session's connections; a plain event is looked at in between.
    Raises `Stopped` (a BaseException) once it is set."""
    ticket = Ticket.of(cancelled)
    jar = copy_cookies(_file_cookies(options.cookies_file), cookies)
    gate = process().gate
    with (
        process().outlets.open() as outlet,
        ticket.hook(outlet.cut),
        ticket.hook(functools.partial(gate.kill, ticket)),
        gate.on_behalf_of(ticket),
        Session(_params(options), outlet.url, ticket, jar) as session,
    ):
        yield session


def _params(options: WorkerOptions) -> dict[str, Any]:
    """Anew for each instance: yt-dlp changes its parameters."""
    return {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "color": "never",
        "cachedir": str(process().directory / "cache"),
        "socket_timeout": min(20.0, options.stall_timeout),
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
        "impersonate": _target(options),
        "js_runtimes": {name: {} for name in process().js_runtimes},
    }


# Cookies


def copy_cookies(*jars: http.cookiejar.CookieJar | None) -> YoutubeDLCookieJar:
    """A new jar with copies of the cookies of the last jar given."""
    copied = YoutubeDLCookieJar()
    last = [jar for jar in jars if jar is not None][-1:]
    for jar in last:
        for cookie in jar:
            copied.set_cookie(copy.copy(cookie))
    return copied


def _file_cookies(path: str | None) -> YoutubeDLCookieJar | None:
    return _read_cookies(path, os.stat(path).st_mtime_ns) if path else None


@functools.lru_cache(maxsize=1)
def _read_cookies(path: str, changed: int) -> YoutubeDLCookieJar:
    """The file as it was at `changed`. Raises ConfigurationError."""
    jar = YoutubeDLCookieJar(path)
    try:
        jar.load()
    except (OSError, http.cookiejar.LoadError) as error:
        raise ConfigurationError("COOKIES_FILE is not a cookie file in Netscape format.") from error
    return jar


__all__ = ["DownloadError", "Process", "Session", "copy_cookies", "open", "prepare", "process"]
