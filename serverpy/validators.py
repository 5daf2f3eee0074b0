"""Validators for conditional ranges (RFC 9110 §8.8.3 and §13.1.5). Pure.

A Last-Modified date counts as a strong validator without the proof that §8.8.2.2 requires, because hardly any server
provides it; callers also compare lengths or bytes.
"""

from __future__ import annotations


def strong_validator(etag: str | None, last_modified: str | None) -> str | None:
    """Return the value for If-Range: a strong ETag, otherwise the date. Returns None if there is neither."""
    return etag if etag and not etag.startswith("W/") else last_modified


def same_validator(if_range: str, etag: str | None, last_modified: str | None) -> bool:
    """Whether an If-Range matches a representation with these validators: ETags by strong comparison (§8.8.3.2), dates
    by exact match."""
    if if_range.startswith("W/"):
        return False
    return if_range == (etag if if_range.startswith('"') else last_modified)
