"""Selection of the cookies that the requests for a page's media need."""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import urlsplit

from serverpy.extraction.values import Cookie
from serverpy.net.cookies import MAX_COOKIE
from serverpy.ytdlp.page.info_dict import MAX_TEXT, integer, text

MAX_COOKIES = 200


def cookies_for(jar: http.cookiejar.CookieJar, urls: Iterable[str]) -> Iterator[Cookie]:
    """Yield at most MAX_COOKIES cookies whose domain matches one of `urls`. COOKIES_FILE may contain cookies of many
    other sites, which stay in the worker process. Whether the `path` and the `secure` attribute of a cookie match is
    checked later, for each request for media."""
    return islice(_all_cookies(jar, urls), MAX_COOKIES)


def _all_cookies(jar: http.cookiejar.CookieJar, urls: Iterable[str]) -> Iterator[Cookie]:
    hosts = {urlsplit(url).hostname or "" for url in urls if url.startswith(("http://", "https://"))}
    domains = hosts | {domain for host in hosts for domain in _parents(host)}
    now = time.time()
    for cookie in jar:
        domain = cookie.domain.removesuffix(".local") if cookie.domain.count(".") == 1 else cookie.domain
        is_long = len(cookie.name) + len(cookie.value or "") + len(domain) + len(cookie.path) > MAX_COOKIE
        if is_long or cookie.is_expired(int(now)) or domain not in domains:
            continue
        yield Cookie(
            name=text(cookie.name, MAX_COOKIE) or "",
            value=text(cookie.value, MAX_COOKIE) or "",
            domain=text(domain, MAX_TEXT) or "",
            path=text(cookie.path, MAX_TEXT) or "/",
            secure=bool(cookie.secure),
            expires=integer(cookie.expires),
        )


def _parents(host: str) -> Iterator[str]:
    """Yield the domains whose cookies are also sent to `host`: the domain `host` itself, and its parent domains, each
    with a dot in front."""
    labels = host.split(".")
    return (f".{'.'.join(labels[number:])}" for number in range(len(labels)))
