"""The cookies of one session with media servers, in bounded memory: a jar that stores cookies and selects the cookies
of a request (RFC 6265 §5).

A page and its media servers may set any number of cookies. Therefore the jar limits their number and size, and the
search for the cookies of a request covers only the host of the request and the parent domains of that host. The module
does no I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from ipaddress import ip_address

from serverpy.extraction.values import Cookie
from serverpy.net.bounds import note
from serverpy.net.urls import Origin

MAX_COOKIE = 4096
"""Maximum length of a cookie with its attributes, in characters (RFC 6265 §6.1). Longer cookies are ignored."""
MAX_PER_DOMAIN = 50
MAX_JAR_BYTES = 32 * 1024
"""Maximum size of all cookies of a jar, in bytes, including COOKIE_BYTES for each cookie."""
COOKIE_BYTES = 200
"""Memory, in bytes, that a jar counts for a cookie in addition to its text."""
_MAX_DIGITS = 12


@dataclass(frozen=True, slots=True)
class _Kept:
    """A cookie in a jar. `size` is the number of bytes that the jar counts for the cookie."""

    cookie: Cookie
    size: int

    @property
    def is_for_host_only(self) -> bool:
        return not self.cookie.domain.startswith(".")


class CookieJar:
    """A cookie jar that initially contains `cookies`. If a domain has more than MAX_PER_DOMAIN cookies after a new
    cookie, the jar drops the domain's oldest cookie. While the jar exceeds MAX_JAR_BYTES, it drops the oldest cookie of
    the domain that has received no cookie for the longest time."""

    def __init__(self, cookies: Iterable[Cookie] = (), clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._domains: dict[str, dict[tuple[str, str], _Kept]] = {}
        self._bytes = 0
        for cookie in cookies:
            self._put(cookie)

    def __len__(self) -> int:
        return sum(map(len, self._domains.values()))

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def header_for(self, origin: Origin, target: str) -> str | None:
        """Return the value of the Cookie header of a request for `target` at `origin`. Cookies with longer paths come
        first (§5.4). Returns None if no cookie applies to the request."""
        if not self._domains:
            return None
        host, path, now = origin.host.lower(), target.partition("?")[0], self._clock()
        found = [
            each.cookie
            for domain in _domains_of(host)
            for each in self._domains.get(domain, {}).values()
            if (domain == host or not each.is_for_host_only)
            and (origin.scheme == "https" or not each.cookie.secure)
            and (each.cookie.expires is None or each.cookie.expires > now)
            and _covers(each.cookie.path, path)
        ]
        found.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in found) or None

    def receive(self, fields: Iterable[str], origin: Origin, target: str) -> None:
        """Store the cookies that a response from `origin` to a request for `target` sets. `fields` are the values of
        the response's Set-Cookie fields. Ignores cookies that are malformed, too long, or for a domain that does not
        contain the host of `origin` (§5.3)."""
        for field in fields:
            cookie = _parsed(field, origin.host.lower(), target.partition("?")[0], self._clock())
            if len(field) > MAX_COOKIE or (cookie is not None and not self._put(cookie)):
                note("cookies")

    def _put(self, cookie: Cookie) -> bool:
        """Store `cookie`. Returns False if a limit of the jar was exceeded, so that this cookie or older cookies were
        dropped."""
        size = len(cookie.name) + len(cookie.value) + len(cookie.domain) + len(cookie.path)
        domain = cookie.domain.removeprefix(".").lower()
        self._remove(domain, (cookie.name, cookie.path))
        is_over = cookie.expires is not None and cookie.expires <= self._clock()
        if is_over or size > MAX_COOKIE or not cookie.name:
            return size <= MAX_COOKIE
        kept = self._domains.pop(domain, {})
        self._domains[domain] = kept  # move the domain to the end of the order
        kept[cookie.name, cookie.path] = _Kept(cookie, size + COOKIE_BYTES)
        self._bytes += size + COOKIE_BYTES
        fits = len(kept) <= MAX_PER_DOMAIN and self._bytes <= MAX_JAR_BYTES
        if len(kept) > MAX_PER_DOMAIN:
            self._remove(domain, next(iter(kept)))
        while self._bytes > MAX_JAR_BYTES:
            oldest = next(iter(self._domains))
            self._remove(oldest, next(iter(self._domains[oldest])))
        return fits

    def _remove(self, domain: str, key: tuple[str, str]) -> None:
        kept = self._domains.get(domain)
        if kept is None or key not in kept:
            return
        self._bytes -= kept.pop(key).size
        if not kept:
            del self._domains[domain]


def _domains_of(host: str) -> list[str]:
    """Return the host, and the domains that contain the host. No domain contains an IP address."""
    if _is_address(host):
        return [host]
    labels = host.split(".")
    return [".".join(labels[number:]) for number in range(len(labels))]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _covers(cookie_path: str, path: str) -> bool:
    """Return whether `path` is `cookie_path` or below it (§5.1.4)."""
    if not path.startswith(cookie_path):
        return False
    return len(path) == len(cookie_path) or cookie_path.endswith("/") or path[len(cookie_path)] == "/"


def _parsed(field: str, host: str, path: str, now: float) -> Cookie | None:
    """Parse the value of a Set-Cookie header of a response from `host` (§5.2, §5.3). Returns None if the value is
    malformed or too long, or if its Domain attribute does not contain the host."""
    if len(field) > MAX_COOKIE:
        return None
    pair, *rest = field.split(";")
    name, equals, value = (text.strip() for text in pair.partition("="))
    if not equals or not name:
        return None
    given = {key.strip().lower(): text.strip() for key, _, text in (item.partition("=") for item in rest)}
    domain = given.get("domain", "").removeprefix(".").lower()
    # A domain without a dot, such as `com`, contains sites of many owners, and no domain contains an IP address.
    is_wide = "." in domain and not _is_address(host)
    if domain not in ("", host) and not (is_wide and host.endswith(f".{domain}")):
        return None
    given_path = given.get("path", "")
    return Cookie(
        name=name,
        value=value,
        domain=f".{domain}" if is_wide else host,
        path=given_path if given_path.startswith("/") else path.rpartition("/")[0] or "/",
        secure="secure" in given,
        expires=_expiry(given, now),
    )


def _expiry(given: dict[str, str], now: float) -> int | None:
    """Return the time at which a cookie expires, in seconds since the epoch. Returns None if the cookie states no valid
    time, which makes it a session cookie. Max-Age takes precedence over Expires (§5.3)."""
    age = given.get("max-age", "")
    digits = age.removeprefix("-")
    if digits.isascii() and digits.isdecimal():
        return 0 if age.startswith("-") else int(now) + int(digits[:_MAX_DIGITS])
    date = parsedate_tz(given.get("expires", "")[:64])
    try:
        return None if date is None else int(mktime_tz(date))
    except (ValueError, OverflowError):  # the Expires attribute states an impossible date
        return None
