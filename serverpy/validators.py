"""Functions that compare the validators ETag and Last-Modified of HTTP responses (RFC 9110 §8.8, §13.1.5). The
functions are pure.

A Last-Modified date counts as a strong validator even if the conditions of §8.8.2.2 are not met, because hardly any
server meets them. So callers also compare lengths or bytes.
"""

from __future__ import annotations

from calendar import timegm
from email.utils import parsedate_tz
from typing import TypeGuard

_MAX_DATE = 64
"""Maximum length of a Last-Modified date that is parsed, in characters."""


def strong_validator(etag: str | None, last_modified: str | None) -> str | None:
    """Return the value for an If-Range header: `etag` if it is strong, otherwise `last_modified`, which may be None.
    Ignores an ETag without quotes, because a server would parse it as a date."""
    is_quoted = etag is not None and len(etag) > 1 and etag[0] == etag[-1] == '"'
    return etag if is_quoted else last_modified


def same_validator(if_range: str, etag: str | None, last_modified: str | None) -> bool:
    """Return whether the If-Range value `if_range` matches a representation with the validators `etag` and
    `last_modified`. ETags are compared by strong comparison (§8.8.3.2), and dates must be the same text."""
    if if_range.startswith("W/"):
        return False
    return if_range == (etag if if_range.startswith('"') else last_modified)


def etags_differ(one: str | None, other: str | None) -> bool:
    """Return whether two ETags from the same server show that the bytes differ: both ETags are present and strong, and
    they are not equal. An ETag without quotes is accepted, because some servers omit them."""
    return is_strong(one) and is_strong(other) and one != other


def opaque_tags_differ(one: str | None, other: str | None) -> bool:
    """Return whether two ETags from the same server differ by weak comparison (§8.8.3.2), which ignores the prefix of
    weak ETags. Returns False if an ETag is missing."""
    return bool(one and other) and _opaque(one or "") != _opaque(other or "")


def dates_differ(one: str | None, other: str | None) -> bool:
    """Return whether two Last-Modified dates mean different times. Returns False if a date is missing. Dates are
    parsed, because several servers of the same file may write the same time in different formats (§5.6.7)."""
    if not one or not other or one == other:
        return False
    return _seconds(one) is None or _seconds(one) != _seconds(other)


def is_strong(etag: str | None) -> TypeGuard[str]:
    """Return whether `etag` is present and not weak."""
    return bool(etag) and not (etag or "").startswith(("W/", "w/"))


def _opaque(etag: str) -> str:
    return etag if is_strong(etag) else etag[2:]


def _seconds(date: str) -> int | None:
    """Return the time of `date`, in seconds since the epoch. A date without a time zone counts as GMT. Returns None if
    `date` is invalid."""
    try:
        parsed = parsedate_tz(date) if len(date) <= _MAX_DATE else None
        return None if parsed is None else timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None
