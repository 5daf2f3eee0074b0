"""Validators: ETag and Last-Modified, as servers send them (RFC 9110 §8.8, §13.1.5). Pure.

A Last-Modified date counts as a strong validator without the proof that §8.8.2.2 requires, because hardly any server
provides it; callers also compare lengths or bytes.
"""

from __future__ import annotations

from calendar import timegm
from email.utils import parsedate_tz
from typing import TypeGuard

_MAX_DATE = 64
"""Maximum length of a date that is parsed, in characters."""


def strong_validator(etag: str | None, last_modified: str | None) -> str | None:
    """Return the value for If-Range: a strong ETag, otherwise the date. Returns None if there is neither. An ETag
    without quotes is ignored, because a server would read it as a date."""
    is_quoted = etag is not None and len(etag) > 1 and etag[0] == etag[-1] == '"'
    return etag if is_quoted else last_modified


def same_validator(if_range: str, etag: str | None, last_modified: str | None) -> bool:
    """Return whether an If-Range matches a representation with these validators: ETags by strong comparison (§8.8.3.2),
    dates by exact match."""
    if if_range.startswith("W/"):
        return False
    return if_range == (etag if if_range.startswith('"') else last_modified)


def etags_differ(one: str | None, other: str | None) -> bool:
    """Return whether two ETags of one server show that the bytes differ: both are present and strong, and they are not
    equal. Quotes are not required, because some servers forget them."""
    return is_strong(one) and is_strong(other) and one != other


def dates_differ(one: str | None, other: str | None) -> bool:
    """Return whether two Last-Modified dates mean different times. Returns False if one is missing. Several servers of
    one file may write the same time in different formats (§5.6.7)."""
    if not one or not other or one == other:
        return False
    return _seconds(one) is None or _seconds(one) != _seconds(other)


def is_strong(etag: str | None) -> TypeGuard[str]:
    """Return whether there is an ETag, and it is not weak."""
    return bool(etag) and not (etag or "").startswith(("W/", "w/"))


def _seconds(date: str) -> int | None:
    """Return the time of `date`, in seconds since the epoch. A date without a zone counts as GMT. Returns None if
    `date` is invalid."""
    try:
        parsed = parsedate_tz(date) if len(date) <= _MAX_DATE else None
        return None if parsed is None else timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None
