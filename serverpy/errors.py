"""The one tree of errors. Parts raise these with facts; `api/problems.py` alone turns them into HTTP.

ServerPYError
├── RequestError: what the client asked cannot be
│   ├── InvalidUrl · InvalidParameter
│   ├── RangeNotSatisfiable · UnsupportedConversion
│   └── FormatNotFound · ItemNotFound
├── RefusedError: we may not, or the site says no
│   ├── TargetForbidden · SiteForbidden
│   └── GeoRestricted · LoginRequired · DrmProtected
├── SourceError: the page or its media failed us
│   ├── MediaNotFound · NotMedia · TooLarge
│   ├── ExtractionFailed · ExtractionTimeout
│   └── UpstreamFailed · UpstreamTimeout
├── CapacityError: not now (with `retry_after` seconds)
│   └── Busy · Draining
├── NotInstalled: an extra of this installation is missing
└── ConfigurationError: the operator's settings cannot work

The message of an error is shown to the client. It never carries a stack trace, a cookie, a key, the query
string of an upstream URL, or an internal address.
"""

from __future__ import annotations

from typing import ClassVar


class ServerPYError(Exception):
    """`code` is the stable name of CONTRACT; `str(error)` is one sentence for the person who asked."""

    code: ClassVar[str]

    @property
    def detail(self) -> str:
        return str(self)


class RequestError(ServerPYError):
    """What the client asked cannot be; asking again will not help."""


class InvalidUrl(RequestError):
    """The page's address is not an http(s) URL that we accept."""

    code = "invalid_url"


class InvalidParameter(RequestError):
    """A parameter of the request has no meaning, or not here."""

    code = "invalid_parameter"


class RangeNotSatisfiable(RequestError):
    """RFC 9110 §15.5.17. `size` is the length of the whole in bytes, if known, for `Content-Range: bytes */size`."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.size = size


class UnsupportedConversion(RequestError):
    """`to` (or a merge) that this media cannot be turned into."""

    code = "unsupported_conversion"


class FormatNotFound(RequestError):
    """No format of the page fits the selector, or none can be streamed as asked."""

    code = "format_not_found"


class ItemNotFound(RequestError):
    """`item` points beyond the playlist or image post."""

    code = "item_not_found"


class RefusedError(ServerPYError):
    """We may not reach it, or the site lets nobody (of our kind) in."""


class TargetForbidden(RefusedError):
    """The guard refused an address, a port or a scheme."""

    code = "target_forbidden"


class SiteForbidden(RefusedError):
    """ALLOW_SITES, DENY_SITES or GENERIC_EXTRACTOR exclude the extractor."""

    code = "site_forbidden"


class GeoRestricted(RefusedError):
    """The site refuses the server's country."""

    code = "geo_restricted"


class LoginRequired(RefusedError):
    """The site wants an account, a payment or a proof of being human."""

    code = "login_required"


class DrmProtected(RefusedError):
    """The media is encrypted with DRM."""

    code = "drm_protected"


class SourceError(ServerPYError):
    """The page or its media failed us."""


class MediaNotFound(SourceError):
    """The page has no media, or no extractor knows it."""

    code = "media_not_found"


class NotMedia(SourceError):
    """The address answers with bytes that are no media (HTML, JSON, text)."""

    code = "not_media"


class TooLarge(SourceError):
    """Longer or larger than MAX_DURATION, MAX_BYTES or a bound of the server allow."""

    code = "too_large"


class ExtractionFailed(SourceError):
    """yt-dlp could not read the page, for a reason that is not one of the others."""

    code = "extraction_failed"


class ExtractionTimeout(SourceError):
    """The extraction took longer than EXTRACT_TIMEOUT."""

    code = "extraction_timeout"


class UpstreamFailed(SourceError):
    """The media server could not be reached, answered with an error, or cut the body for good."""

    code = "upstream_failed"


class UpstreamTimeout(SourceError):
    """The media server did not answer or fell silent for too long."""

    code = "upstream_timeout"


class CapacityError(ServerPYError):
    """Not now. `retry_after` is the number of seconds for the `Retry-After` header."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(CapacityError):
    """Every slot, byte or place in the line is taken."""

    code = "busy"


class Draining(CapacityError):
    """The server is about to stop and starts nothing new."""

    code = "draining"


class NotInstalled(ServerPYError):
    """What was asked for needs an extra that this server has not got."""

    code = "not_installed"


class ConfigurationError(ServerPYError):
    """A setting cannot work, or asks for something that this installation cannot do. Raised at start only."""

    code = "configuration"
