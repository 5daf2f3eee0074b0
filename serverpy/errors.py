"""The tree of all errors. All modules raise errors of this tree; only `api/problems.py` turns them into HTTP responses.

ServerPYError
├── RequestError: the request cannot be fulfilled
│   ├── InvalidUrl · InvalidParameter
│   ├── UrlTooLong · HeadersTooLarge
│   ├── PreconditionFailed · RangeNotSatisfiable · UnsupportedConversion
│   └── FormatNotFound · ItemNotFound
├── RefusedError: this server or the site refuses the request
│   ├── HostUnknown · TargetForbidden · SiteForbidden
│   └── GeoRestricted · LoginRequired · DrmProtected
├── SourceError: the page or its media failed
│   ├── MediaNotFound · NotMedia · TooLarge
│   ├── ExtractionFailed · ExtractionTimeout
│   └── UpstreamFailed · UpstreamTimeout
├── CapacityError: no capacity now (with `retry_after` seconds)
│   └── Busy · RateLimited · QuotaExceeded · Draining
├── NotInstalled: an extra of this installation is missing
└── ConfigurationError: the operator's settings cannot work

The message of an error is shown to the client. It never contains a stack trace, a cookie, a key, the query
string of an upstream URL, or an internal address.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class ServerPYError(Exception):
    """The base class of all errors. `code` is the error's stable name in the HTTP API; `str(error)` is one sentence for
    the client."""

    code: ClassVar[str]

    @property
    def detail(self) -> str:
        return str(self)


class RequestError(ServerPYError):
    """A request that fails even if the client repeats it unchanged."""


class InvalidUrl(RequestError):
    """An address of a page that is not a valid http(s) URL."""

    code = "invalid_url"


class InvalidParameter(RequestError):
    """A parameter of the request that is invalid, or does not apply to this media."""

    code = "invalid_parameter"


class UrlTooLong(RequestError):
    """A request target that is longer than the server accepts (RFC 9110 §15.5.15)."""

    code = "url_too_long"


class HeadersTooLarge(RequestError):
    """Header fields of a request that are longer than the server accepts (RFC 6585 §5)."""

    code = "headers_too_large"


class PreconditionFailed(RequestError):
    """An If-Match or If-Unmodified-Since condition that the current media does not meet (RFC 9110 §13.1)."""

    code = "precondition_failed"


class RangeNotSatisfiable(RequestError):
    """A range that contains no byte of the file (RFC 9110 §15.5.17).

    `size` is the length of the whole file in bytes, or None if unknown; the response has it in `Content-Range: bytes
    */size`."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.size = size


class UnsupportedConversion(RequestError):
    """Media that cannot be converted to the format that the request parameter `to` names, or formats that cannot be
    merged."""

    code = "unsupported_conversion"


class FormatNotFound(RequestError):
    """A page that has no format which matches the format selector, or none which can be streamed as requested."""

    code = "format_not_found"


class ItemNotFound(RequestError):
    """An item number beyond the end of the playlist or image post."""

    code = "item_not_found"


class RefusedError(ServerPYError):
    """A request that this server or the site refuses."""


class HostUnknown(RefusedError):
    """A Host header with a name that is not in ALLOWED_HOSTS. A normal response to it would make DNS rebinding
    possible."""

    code = "host_unknown"


class KeyRequired(RefusedError):
    """A request without credentials for a route that needs an API key."""

    code = "key_required"


class KeyInvalid(RefusedError):
    """A request with credentials that are unknown, malformed, expired or revoked."""

    code = "key_invalid"


class KeyForbids(RefusedError):
    """A request that its key, its link or its origin does not allow."""

    code = "key_forbids"


class LinkInvalid(RefusedError):
    """A signed link that this server did not issue, that was changed, used up or revoked, or that belongs to another
    client network."""

    code = "link_invalid"


class LinkExpired(RefusedError):
    """A request for a signed link after the link's time of expiry."""

    code = "link_expired"


class TargetForbidden(RefusedError):
    """An address, port or URL scheme that this server does not connect to."""

    code = "target_forbidden"


class SiteForbidden(RefusedError):
    """A site whose yt-dlp extractor is excluded by the settings ALLOW_SITES, DENY_SITES or GENERIC_EXTRACTOR."""

    code = "site_forbidden"


class GeoRestricted(RefusedError):
    """A site that refuses requests from the country of this server."""

    code = "geo_restricted"


class LoginRequired(RefusedError):
    """A site that requires an account, a payment or a captcha."""

    code = "login_required"


class DrmProtected(RefusedError):
    """Media that is encrypted with DRM, and so cannot be streamed."""

    code = "drm_protected"


class SourceError(ServerPYError):
    """A failure of the page, of its extraction or of its media."""

    of_transport = False
    """Whether the failure lies in the transport, so that yt-dlp's HTTP client may succeed where this server's own
    client failed: connection, TLS, HTTP, or a status that may depend on the client. `net/range_requests.py` sets this
    attribute when a read gives up."""


class MediaNotFound(SourceError):
    """A page that has no media, or that no extractor supports."""

    code = "media_not_found"


class NotMedia(SourceError):
    """Bytes from the media server that are not media (HTML, JSON, text)."""

    code = "not_media"


class TooLarge(SourceError):
    """Media beyond MAX_DURATION, MAX_BYTES or another limit of the server, or a request body that exceeds the maximum
    size."""

    code = "too_large"


class ExtractionFailed(SourceError):
    """A page that yt-dlp could not read, for a reason that has no error code of its own."""

    code = "extraction_failed"


class ExtractionTimeout(SourceError):
    """An extraction that took longer than EXTRACT_TIMEOUT."""

    code = "extraction_timeout"


class UpstreamFailed(SourceError):
    """A media server that could not be reached, answered with an error, or truncated a body that could not be
    resumed."""

    code = "upstream_failed"


class UpstreamTimeout(SourceError):
    """A media server that did not respond in time, or stopped sending."""

    code = "upstream_timeout"


class CapacityError(ServerPYError):
    """A temporary lack of capacity. `retry_after` is the number of seconds for the `Retry-After` header."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(CapacityError):
    """A server with too many streams or waiting requests, or with too little free memory."""

    code = "busy"


class RateLimited(CapacityError):
    """A client or key that has started too many extractions, or has too many streams open."""

    code = "rate_limited"


class QuotaExceeded(CapacityError):
    """A key or link whose bytes are used up. The server may still send the first `left` of the bytes that it was about
    to send."""

    code = "quota_exceeded"

    def __init__(self, message: str, retry_after: int = 5, *, left: int = 0) -> None:
        super().__init__(message, retry_after)
        self.left = left


class Draining(CapacityError):
    """A server that is about to stop and accepts no new streams."""

    code = "draining"


class NotInstalled(ServerPYError):
    """A request that needs an optional extra which is not installed on this server."""

    code = "not_installed"


class ConfigurationError(ServerPYError):
    """A setting that cannot work, or that needs software which is not installed. Raised only at start."""

    code = "configuration"


_SHORTAGES = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.EAGAIN: "processes or threads",
    errno.ENOSPC: "disk space",
    errno.EDQUOT: "disk space",
    errno.EROFS: "directory that can be written to",
}


def shortage(error: BaseException) -> Busy | None:
    """Return the error for the client if `error` or one of its causes shows that the system has run out of a resource,
    such as memory or file descriptors. Returns None otherwise."""
    cause: BaseException | None = error
    while cause is not None:
        if missing := _missing(cause):
            return Busy(f"The server has no {missing} left. Try again later.")
        cause = cause.__cause__
    return None


def _missing(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "processes or threads"
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # `tempfile` raises this error
        return "directory that can be written to"
    return _SHORTAGES.get(error.errno or 0) if isinstance(error, OSError) else None
