"""Cookie jars: every session has its own, with copies of what it begins with."""

from __future__ import annotations

import copy
import functools
import http.cookiejar
import os

from yt_dlp.cookies import YoutubeDLCookieJar

from serverpy.errors import ConfigurationError


def copy_cookies(*jars: http.cookiejar.CookieJar | None) -> YoutubeDLCookieJar:
    """A new jar with copies of the cookies of the last jar given."""
    copied = YoutubeDLCookieJar()
    last = [jar for jar in jars if jar is not None][-1:]
    for jar in last:
        for cookie in jar:
            copied.set_cookie(copy.copy(cookie))
    return copied


def cookies_of_file(path: str | None) -> YoutubeDLCookieJar | None:
    """What COOKIES_FILE has now; to be copied, never changed. Raises ConfigurationError."""
    if not path:
        return None
    try:
        return _read_cookies(path, os.stat(path).st_mtime_ns)
    except http.cookiejar.LoadError as error:
        raise ConfigurationError("COOKIES_FILE is not a cookie file in Netscape format.") from error
    except OSError as error:
        raise ConfigurationError(f"COOKIES_FILE cannot be read: {error.strerror}.") from error


@functools.lru_cache(maxsize=1)
def _read_cookies(path: str, changed: int) -> YoutubeDLCookieJar:
    """The file as it was at `changed`."""
    jar = YoutubeDLCookieJar(path)
    jar.load()
    return jar
