"""Selection of the cookies that the requests for a page's media need."""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from serverpy.extraction.values import Cookie
from serverpy.ytdlp.page.info_dict import MAX_TEXT, integer, text


def cookies_for(jar: http.cookiejar.CookieJar, urls: Iterable[str]) -> Iterator[Cookie]:
    """Yield the cookies whose domain matches one of `urls`. COOKIES_FILE may contain cookies of many other sites, which
    stay in the worker process. Each later request for media checks a cookie's `path` and `secure`."""
    hosts = {urlsplit(url).hostname or "" for url in urls if url.startswith(("http://", "https://"))}
    now = time.time()
    for cookie in jar:
        domain = cookie.domain.removesuffix(".local") if cookie.domain.count(".") == 1 else cookie.domain
        if cookie.is_expired(int(now)) or not any(_related(domain, host) for host in hosts):
            continue
        yield Cookie(
            name=text(cookie.name, 4096) or "",
            value=text(cookie.value, 8192) or "",
            domain=text(domain, MAX_TEXT) or "",
            path=text(cookie.path, MAX_TEXT) or "/",
            secure=bool(cookie.secure),
            expires=integer(cookie.expires),
        )


def _related(domain: str, host: str) -> bool:
    bare = domain.removeprefix(".")
    return host == bare or (domain.startswith(".") and host.endswith(domain))
