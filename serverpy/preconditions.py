"""The evaluation of the preconditions of a GET or HEAD request (RFC 9110 §13) against the validators of the media. The
functions are pure.

If-Range is not a precondition here: it is evaluated after the preconditions (§13.2.2), and decides only whether the
Range header applies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

_MEMBER = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|$)')
"""Matches one member of a list of entity tags: an entity tag, or nothing (§8.8.3, §5.6.1)."""
_DATE_FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""Formats of dates for `strptime`: an IMF-fixdate, and the two obsolete forms that a recipient of HTTP dates must
accept (§5.6.7)."""


class Outcome(Enum):
    PROCEED = "the request is served"
    NOT_MODIFIED = "304"
    FAILED = "412"


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The values of the precondition header fields of a request; None for an absent field."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None

    @property
    def any(self) -> bool:
        return self != _NONE


_NONE = Preconditions()


def conditional_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the header fields whose names begin with `if-`, by name, with `_` instead of `-` in the names. Joins the
    values of a repeated field into a list (§5.3); if the field does not allow a list, the joined value is invalid and
    matches nothing."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(b"if-"):
            key, text = name.decode("latin-1").replace("-", "_"), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def evaluate(asked: Preconditions, etag: str | None, last_modified: str | None) -> Outcome:
    """Evaluate the preconditions in the order of RFC 9110 §13.2.2. Ignores a condition on a date if the date in the
    request or `last_modified` is absent or invalid."""
    if asked.if_match is not None:
        if not _matches(asked.if_match, etag, strong=True):
            return Outcome.FAILED
    elif _is_later(last_modified, asked.if_unmodified_since) is True:
        return Outcome.FAILED
    if asked.if_none_match is not None:
        return Outcome.NOT_MODIFIED if _matches(asked.if_none_match, etag, strong=False) else Outcome.PROCEED
    return Outcome.NOT_MODIFIED if _is_later(last_modified, asked.if_modified_since) is False else Outcome.PROCEED


def _matches(field: str, etag: str | None, *, strong: bool) -> bool:
    """Return whether the list of entity tags `field` contains `etag` (§8.8.3.2). `*` matches any media. A malformed
    `etag` of a media server matches if the client sends it back as the whole field."""
    if field.strip() == "*":
        return True
    if etag is None or (strong and etag.startswith("W/")):
        return False
    if strong:
        return etag in (field.strip(), *_tags(field))
    return etag == field.strip() or etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in _tags(field)]


def _tags(field: str) -> list[str]:
    """Return the entity tags of the list `field`, up to the first malformed member."""
    found: list[str] = []
    at = 0
    while at < len(field) and (match := _MEMBER.match(field, at)) is not None:
        if match[1] is not None:
            found.append(match[1])
        at = match.end()
    return found


def _is_later(last_modified: str | None, date: str | None) -> bool | None:
    """Return whether the media was modified after `date`. Returns None if `last_modified` or `date` is absent or
    invalid."""
    if last_modified is None or date is None:
        return None
    modified, asked = _parse_date(last_modified), _parse_date(date)
    return None if modified is None or asked is None else modified > asked


def _parse_date(text: str) -> datetime | None:
    for form in _DATE_FORMS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
