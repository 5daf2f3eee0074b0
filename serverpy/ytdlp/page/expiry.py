"""The search for the time at which the URL of a media file expires. The URL itself may state that time."""

from __future__ import annotations

import math
import re
from calendar import timegm
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

_NAMES = frozenset(
    {"expire", "expires", "exp", "e", "ex", "expiry", "expiration", "x-expires", "validto", "se", "wsabsttime"}
)
_LONGEST = 366 * 86400.0
_PAST = 86400.0
_IN_PATH = re.compile(r"/(?:expires?|exp|e)/(\d{10,13})(?=/|$)")
_IN_TOKEN = re.compile(r"(?:^|[~*])exp=(\d{10,13})")


def expires_at(url: str, now: float) -> float | None:
    """Return the earliest expiry that `url` states, in seconds since the epoch. Returns None if `url` states no expiry.
    Ignores times that are more than a day before `now` or more than a year after `now`, because a query parameter
    called `e` may have any meaning."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, max_num_fields=100)
    except ValueError:
        return None
    times = [_unix_time(text) for text in _IN_PATH.findall(parts.path)]
    times += [_signed({name.lower(): value for name, value in query}, prefix) for prefix in ("x-amz-", "x-goog-")]
    for name, value in query:
        if name.lower() in _NAMES:
            times.append(_unix_time(value) or _iso_time(value))
        times += [_unix_time(text) for text in _IN_TOKEN.findall(value)]
    plausible = [time for time in times if time is not None and now - _PAST < time < now + _LONGEST]
    return min(plausible, default=None)


def _unix_time(text: str) -> float | None:
    if not re.fullmatch(r"\d{10,13}", text):
        return None
    return float(text) if len(text) < 13 else float(text) / 1000


def _iso_time(text: str) -> float | None:
    """Parse an ISO 8601 time such as that in Azure's `se=2026-11-22T12:00:00Z`. Returns None if `text` is no such
    time."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(?:T[\d:.]+Z)?", text):
        return None
    try:
        return float(timegm(datetime.fromisoformat(text.removesuffix("Z")).timetuple()))
    except ValueError:
        return None


def _signed(query: dict[str, str], prefix: str) -> float | None:
    """Return the expiry of a version 4 signature of AWS or Google: the time of the signature plus the validity in
    seconds that the URL states. Returns None if `query` has no such signature."""
    date, seconds = query.get(f"{prefix}date", ""), query.get(f"{prefix}expires", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", date) or not re.fullmatch(r"\d{1,7}", seconds):
        return None
    try:
        signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return math.fsum((timegm(signed.timetuple()), int(seconds)))
