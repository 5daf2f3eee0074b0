"""Functions that convert the URL of a media file to the form that the HTTP client sends to media servers: they split,
normalise and percent-encode the URL like yt-dlp and browsers. The module does no I/O."""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from serverpy.errors import UpstreamFailed

BLANKS = "".join(map(chr, range(33)))
"""C0 control characters and the space, which browsers strip from both ends of a URL (WHATWG URL §4.4)."""
_SAFE = "/?%:@!$&'()*+,;=~-._"
"""The characters that may occur unencoded in a path or a query (RFC 3986 §3.3, §3.4), and the percent sign."""
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOT = re.compile(r"(?:\.|%2e)", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a URL (RFC 6454 §4): the scheme, the host (in IDNA form, in lower case, without brackets) and the
    port of a server."""

    scheme: str
    host: str
    port: int

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


_CACHED = 64
_MAX_CACHED = 2048
"""Maximum length of a URL whose parts are cached, in characters. The limit bounds the memory of the cache, which the
memory budget does not count."""


def split(url: str) -> tuple[Origin, str]:
    """Split an http(s) URL into origin and request target. Characters that are not allowed in a request target are
    percent-encoded, and dot segments are removed. Raises `UpstreamFailed` if the URL is invalid, or contains a user
    name."""
    return _split_and_cache(url) if len(url) <= _MAX_CACHED else _split(url)


def _split(url: str) -> tuple[Origin, str]:
    try:
        parts = urlsplit(url.strip(BLANKS))
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        path = _encoded(_without_dot_segments(parts.path or "/"))
        query = f"?{_encoded(parts.query)}" if parts.query else ""
    except (ValueError, KeyError) as error:
        raise UpstreamFailed("The media's URL is invalid, or not http or https.") from error
    if not host or parts.username is not None:
        raise UpstreamFailed("The media's URL has no host, or contains a user name.")
    return Origin(parts.scheme, host, port), path + query


_split_and_cache = functools.lru_cache(maxsize=_CACHED)(_split)


def _encoded(text: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_SAFE)


def _without_dot_segments(path: str) -> str:
    """Remove the path segments `.` and `..` (RFC 3986 §5.2.4), even percent-encoded ones, as browsers do."""
    if not _DOT_SEGMENT.search(path):
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        dots = _dots(segment)
        if dots == 0:
            kept.append(segment)
        elif dots == 2 and kept:
            kept.pop()
    return "/" + "/".join([*kept, ""] if _dots(segments[-1]) and kept else kept)


def _dots(segment: str) -> int:
    """Classify a path segment, which may be percent-encoded: 1 for `.`, 2 for `..`, 0 for any other segment."""
    dots = len(_DOT.findall(segment))
    return dots if dots in (1, 2) and not _DOT.sub("", segment) else 0


def resolve(base: str, reference: str) -> str:
    """Return the URL of `reference` relative to the http(s) URL `base` as browsers do (WHATWG URL §4.4): backslashes
    before the query count as slashes, and empty path segments are kept, which `urljoin` removes. Raises ValueError if
    the URL is invalid."""
    reference = _with_slashes(reference)
    url = urljoin(base, reference)
    if "//" not in base.partition("//")[2] and "//" not in reference:
        return url
    parts, root = urlsplit(reference), urlsplit(base)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return url
    folder = root.path[: root.path.rfind("/") + 1] or "/"
    path = _without_dot_segments(folder + parts.path)
    return root._replace(path=path, query=parts.query, fragment=parts.fragment).geturl()


def _with_slashes(reference: str) -> str:
    if "\\" not in reference:
        return reference
    end = next((at for at, each in enumerate(reference) if each in "?#"), len(reference))
    return reference[:end].replace("\\", "/") + reference[end:]


def without_user_info(url: str) -> tuple[str, str | None]:
    """Return the URL without its user name and password. Also return the value of the Authorization header for that
    user name and password (RFC 7617 §2), or None if the URL has neither. Raises `UpstreamFailed` if the URL is
    invalid."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UpstreamFailed("The media's URL is invalid, or not http or https.") from error
    user_info, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = user_info.partition(":")
    credentials = f"{unquote(user)}:{unquote(password)}".encode("utf-8", "replace")
    return parts._replace(netloc=host).geturl(), f"Basic {base64.b64encode(credentials).decode()}"


class RedirectFailed(UpstreamFailed):
    """Error: the redirects of a media server lead to no response, because they are too many, form a loop, or contain an
    invalid URL."""


def redirected(url: str, location: str) -> str:
    """Return the target URL of a redirect. Decodes bytes that are not ASCII as UTF-8, like browsers. Raises
    `RedirectFailed` if the target URL is invalid."""
    try:
        return resolve(url, location.encode("latin-1").decode("utf-8", "replace"))
    except ValueError as error:
        raise RedirectFailed("The media server redirects to an invalid URL.") from error
