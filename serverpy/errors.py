"""The one tree of errors. Parts raise these with facts; only `api/problems.py` turns them into HTTP.

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
│   └── Busy · Draining
├── NotInstalled: an extra of this installation is missing
└── ConfigurationError: the operator's settings cannot work

The message of an error is shown to the client. It never carries a stack trace, a cookie, a key, the query
string of an upstream URL, or an internal address.
"""

from __future__ import annotations

from typing import ClassVar


class ServerPYError(Exception):
    """`code` is the error's stable name in the HTTP API; `str(error)` is one sentence for the client."""

    code: ClassVar[str]

    @property
    def detail(self) -> str:
        return str(self)


class RequestError(ServerPYError):
    """The request cannot be fulfilled; repeating it will not help."""


class InvalidUrl(RequestError):
    """The page's address is not an acceptable http(s) URL."""

    code = "invalid_url"


class InvalidParameter(RequestError):
    """A parameter of the request is invalid, or does not apply to this media."""

    code = "invalid_parameter"


class UrlTooLong(RequestError):
    """The request target is longer than the server reads (RFC 9110 §15.5.15)."""

    code = "url_too_long"


class HeadersTooLarge(RequestError):
    """The header fields of the request are longer than the server reads (RFC 6585 §5)."""

    code = "headers_too_large"


class PreconditionFailed(RequestError):
    """If-Match or If-Unmodified-Since does not hold for the current media (RFC 9110 §13.1)."""

    code = "precondition_failed"


class RangeNotSatisfiable(RequestError):
    """The range contains no byte of the file (RFC 9110 §15.5.17).

    `size` is the length of the whole file in bytes, if known, for `Content-Range: bytes */size`."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.size = size


class UnsupportedConversion(RequestError):
    """This media cannot be converted to `to`, or its formats cannot be merged."""

    code = "unsupported_conversion"


class FormatNotFound(RequestError):
    """No format of the page fits the selector, or none can be streamed as requested."""

    code = "format_not_found"


class ItemNotFound(RequestError):
    """`item` is beyond the end of the playlist or image post."""

    code = "item_not_found"


class RefusedError(ServerPYError):
    """This server or the site refuses the request."""


class HostUnknown(RefusedError):
    """The Host of the request names another server. An answer would allow DNS rebinding."""

    code = "host_unknown"


class TargetForbidden(RefusedError):
    """This server does not connect to that address, port or scheme."""

    code = "target_forbidden"


class SiteForbidden(RefusedError):
    """ALLOW_SITES, DENY_SITES or GENERIC_EXTRACTOR exclude the site's extractor."""

    code = "site_forbidden"


class GeoRestricted(RefusedError):
    """The site refuses the server's country."""

    code = "geo_restricted"


class LoginRequired(RefusedError):
    """The site requires an account, a payment or a captcha."""

    code = "login_required"


class DrmProtected(RefusedError):
    """The media is encrypted with DRM."""

    code = "drm_protected"


class SourceError(ServerPYError):
    """The page or its media failed."""

    of_transport = False
    """Whether this server's own HTTP client could not get the media (connection, TLS, HTTP, a status that may be meant
    for this client only), so that yt-dlp's client may succeed. `net/range_requests.py` sets it when a read gives up."""


class MediaNotFound(SourceError):
    """The page has no media, or no extractor supports it."""

    code = "media_not_found"


class NotMedia(SourceError):
    """The media server returned bytes that are not media (HTML, JSON, text)."""

    code = "not_media"


class TooLarge(SourceError):
    """The media is longer or larger than MAX_DURATION, MAX_BYTES or another limit of the server, or the body of the
    request is too large."""

    code = "too_large"


class ExtractionFailed(SourceError):
    """yt-dlp could not read the page, for a reason that has no error code of its own."""

    code = "extraction_failed"


class ExtractionTimeout(SourceError):
    """The extraction took longer than EXTRACT_TIMEOUT."""

    code = "extraction_timeout"


class UpstreamFailed(SourceError):
    """The media server could not be reached, answered with an error, or cut the body and did not resume it."""

    code = "upstream_failed"


class UpstreamTimeout(SourceError):
    """The media server did not answer in time, or stopped sending."""

    code = "upstream_timeout"


class CapacityError(ServerPYError):
    """The server has no capacity now. `retry_after` is the number of seconds for the `Retry-After` header."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(CapacityError):
    """All slots, all memory or all places in the queue are taken."""

    code = "busy"


class Draining(CapacityError):
    """The server is about to stop and accepts no new streams."""

    code = "draining"


class NotInstalled(ServerPYError):
    """The request needs an extra that this server lacks."""

    code = "not_installed"


class ConfigurationError(ServerPYError):
    """A setting cannot work, or requires something that this installation lacks. Raised only at start."""

    code = "configuration"
