"""Translation of yt-dlp's failures to ServerPY's errors, each with one sentence for the client.

yt-dlp wraps an exception several times (in DownloadError, ExtractorError, RequestError, and the errors of the HTTP
library), so `translate` searches the whole chain: first for a refusal by the filtering proxy, then for known exception
types, then for known messages. The client sees the message of the site or the extractor, without escape codes, advice
about yt-dlp's options, query strings, or addresses of internal networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from yt_dlp.networking.exceptions import HTTPError, ProxyError, RequestError, SSLError, TransportError
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

from serverpy.errors import (
    ExtractionFailed,
    ExtractionTimeout,
    GeoRestricted,
    MediaNotFound,
    ServerPYError,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.error_text import (
    IMPERSONATING,
    NO_ANSWER,
    NO_MEDIA,
    kind_of,
    no_impersonation,
    refusal,
    refused_tunnel,
)
from serverpy.extras import IMPERSONATE
from serverpy.net.guard import is_public
from serverpy.net.heads import REFUSED_HEADER

MAX_CHARACTERS = 300
_GENERAL = "This page could not be read."


def translate(error: BaseException) -> ServerPYError:
    """Return the ServerPYError for an exception of any type that an extraction by yt-dlp raised."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ServerPYError):
            return link
    return (
        _refused(chain)
        or _not_installed(chain)
        or _by_type(chain)
        or _by_words(chain)
        or _by_network(chain)
        or _unexpected(chain)
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether a MemoryError is among the causes of `error`."""
    return any(isinstance(link, MemoryError) for link in _chain(error))


def close_responses(error: BaseException) -> None:
    """Close the responses that HTTP errors in the chain of `error` hold. Otherwise their sockets stay open until the
    garbage collector finds the errors."""
    for link in _chain(error):
        if isinstance(link, HTTPError):
            link.close()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and all its causes. The outermost error comes first."""
    waiting = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        exc_info = getattr(link, "exc_info", None)
        waiting += [exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else None]
        waiting += [getattr(link, "cause", None), link.__cause__, link.__context__]


def _refused(chain: list[BaseException]) -> ServerPYError | None:
    """Return the error for a response that came from the filtering proxy instead of the site. Returns None if no error
    in `chain` has such a response."""
    for link in chain:
        found = None
        if isinstance(link, HTTPError):
            found = refusal(link.response.headers.get(REFUSED_HEADER))
        elif isinstance(link, ProxyError | TransportError):
            found = refused_tunnel(str(link))
        if found is not None:
            return ExtractionTimeout(found.detail) if isinstance(found, UpstreamTimeout) else found
    return None


def _not_installed(chain: list[BaseException]) -> ServerPYError | None:
    """Return the error for a page that needs curl-cffi, if curl-cffi is not installed. A page needs curl-cffi if its
    extractor requires impersonation, or if the site refuses requests without impersonation. Returns None for other
    pages."""
    for link in chain:
        if isinstance(link, HTTPError) and link.status == 403 and getattr(link, "lacks_impersonation", False):
            return IMPERSONATE.absence(IMPERSONATING)
        if isinstance(link, ExtractorError | RequestError) and (found := no_impersonation(str(link))):
            return found
    return None


def _by_type(chain: list[BaseException]) -> ServerPYError | None:
    for link in chain:
        if isinstance(link, GeoRestrictedError):
            return GeoRestricted(clean(link.orig_msg) or "The site refuses this server's country.")
        if isinstance(link, UnsupportedError):
            return MediaNotFound(NO_MEDIA)
        if isinstance(link, UserNotLive):
            return MediaNotFound(clean(link.orig_msg))
    return None


def _by_words(chain: list[BaseException]) -> ServerPYError | None:
    """Return the error for an extractor's message. Returns None if the message matches no known pattern."""
    for link in chain:
        if isinstance(link, ExtractorError):
            whole = f"{link.orig_msg} {link.cause or ''}"
            if kind := kind_of(whole):
                return kind(clean(link.orig_msg) or _GENERAL)
    return None


def _by_network(chain: list[BaseException]) -> ServerPYError | None:
    for link in chain:
        if isinstance(link, HTTPError):
            if link.status == 451:
                return GeoRestricted("The site answered 451: the page is unavailable for legal reasons.")
            return ExtractionFailed(f"The site responded with HTTP status {link.status}.")
        if isinstance(link, TimeoutError) or (isinstance(link, TransportError) and "timed out" in str(link).lower()):
            return ExtractionTimeout(NO_ANSWER)
        if isinstance(link, SSLError):
            return UpstreamFailed("The TLS connection to the site failed.")
        if isinstance(link, TransportError):
            return UpstreamFailed("The connection to the site failed.")
    return None


def _unexpected(chain: list[BaseException]) -> ServerPYError:
    for link in chain:
        if isinstance(link, ExtractorError):
            return ExtractionFailed(clean(link.orig_msg) or _GENERAL)
    return ExtractionFailed(_GENERAL)


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f]+")
_BUG_REPORT = re.compile(r"[;,.]?\s*please report this issue on.*", re.IGNORECASE | re.DOTALL)
_ADVICE = re.compile(
    r"[^.;]*(?:\s--[a-z]|github\.com/yt-dlp|yt-dlp -U|VPN or a proxy|--verbose)[^;]*?(?:\.(?=\s|$)|;|$)", re.IGNORECASE
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://(?:\[[^\]\s]*\])?[^\s'\"<>)\]]*", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.]*\]?)(?::\d+)?", re.I)
_PATH = re.compile(r"(?<![\w/:.])/(?:home|root|tmp|usr|var|opt|srv|etc|app|proc)/[^\s'\",;)]*")


def clean(text: str) -> str:
    """Return `text` as one line of at most MAX_CHARACTERS, without internal addresses, file paths and query strings,
    which a client must not see."""
    text = _ESCAPES.sub(" ", text)
    text = _BUG_REPORT.sub("", text)
    text = text.partition(" (caused by ")[0]
    text = _URL.sub(_bare_url, text)
    text = _ADVICE.sub("", text)
    text = _PATH.sub("(file)", text)
    text = _ADDRESS.sub(_outside_address, text)
    text = " ".join(text.split()).removeprefix("ERROR:").strip(" ;,")
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1].rstrip() + "…"


def _bare_url(match: re.Match[str]) -> str:
    """Return the URL without user name, query and fragment, or "(address)" if its host is internal."""
    try:
        parts = urlsplit(match[0])
        host = parts.hostname or ""
    except ValueError:
        return "(address)"
    if not host or host == "localhost" or "." not in host + (":" in host) * "." or not _is_outside(host):
        return "(address)"
    return f"{parts.scheme}://{host}{parts.path}"


def _outside_address(match: re.Match[str]) -> str:
    host = re.sub(r"(?<=\d):\d+$", "", match[0]) if match[0].count(":") == 1 else match[0].strip("[]")
    return match[0] if _is_outside(host) else "(address)"


def _is_outside(host: str) -> bool:
    """Return whether `host` is a public IP address or a host name, and not an IP address of a private network."""
    try:
        return is_public(ip_address(host))
    except ValueError:
        return True
