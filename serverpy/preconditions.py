"""Preconditions of a GET or HEAD (RFC 9110 §13), evaluated against the validators of the media. Pure.

If-Range is not a precondition here: it is evaluated after the preconditions (§13.2.2), and decides only about the
range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

_MEMBER = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|$)')
"""Pattern of an entity tag in a list, or an empty member of it (§8.8.3, §5.6.1)."""
_DATE_FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""Formats of dates for `strptime`: an IMF-fixdate, and the two obsolete forms that a recipient must accept (§5.6.7)."""


class Outcome(Enum):
    PROCEED = "the request is served"
    NOT_MODIFIED = "304"
    FAILED = "412"


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The values of the header fields; None for an absent field."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None

    @property
    def any(self) -> bool:
        return self != _NONE


_NONE = Preconditions()


def conditional_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields whose name begins with `if-`, by their names with `_` instead of `-`. Joins repeated fields
    into a list (§5.3): a repeated field that allows no list then never matches."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(b"if-"):
            key, text = name.decode("latin-1").replace("-", "_"), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def evaluate(asked: Preconditions, etag: str | None, last_modified: str | None) -> Outcome:
    """Evaluate the preconditions in the order of §13.2.2. A condition on a date is ignored if either date is absent or
    invalid."""
    if asked.if_match is not None:
        if not _matches(asked.if_match, etag, strong=True):
            return Outcome.FAILED
    elif _is_later(last_modified, asked.if_unmodified_since) is True:
        return Outcome.FAILED
    if asked.if_none_match is not None:
        return Outcome.NOT_MODIFIED if _matches(asked.if_none_match, etag, strong=False) else Outcome.PROCEED
    return Outcome.NOT_MODIFIED if _is_later(last_modified, asked.if_modified_since) is False else Outcome.PROCEED


def _matches(field: str, etag: str | None, *, strong: bool) -> bool:
    """Compare `etag` with a list of entity tags (§8.8.3.2). `*` matches any media. A malformed tag of the media server
    matches if the client sends it back alone."""
    if field.strip() == "*":
        return True
    if etag is None or (strong and etag.startswith("W/")):
        return False
    if strong:
        return etag in (field.strip(), *_tags(field))
    return etag == field.strip() or etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in _tags(field)]


def _tags(field: str) -> list[str]:
    """Return the tags of a list, up to its first malformed member."""
    found: list[str] = []
    at = 0
    while at < len(field) and (match := _MEMBER.match(field, at)) is not None:
        if match[1] is not None:
            found.append(match[1])
        at = match.end()
    return found


def _is_later(last_modified: str | None, date: str | None) -> bool | None:
    """Return whether the media was modified after `date`. Returns None if either date is absent or invalid."""
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
