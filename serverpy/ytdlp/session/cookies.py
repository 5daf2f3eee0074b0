"""Cookie jars: each session has its own jar, which starts with copies of other cookies."""

from __future__ import annotations

import copy
import functools
import http.cookiejar
import os

from yt_dlp.cookies import YoutubeDLCookieJar

from serverpy.errors import ConfigurationError


def copy_cookies(*jars: http.cookiejar.CookieJar | None) -> YoutubeDLCookieJar:
    """Return a new jar with copies of the cookies of the last jar that is not None."""
    copied = YoutubeDLCookieJar()
    last = [jar for jar in jars if jar is not None][-1:]
    for jar in last:
        for cookie in jar:
            copied.set_cookie(copy.copy(cookie))
    return copied


def cookies_of_file(path: str | None) -> YoutubeDLCookieJar | None:
    """Return the cookies that COOKIES_FILE contains now. Returns None if `path` is empty. The caller copies the jar and
    does not change it. Raises ConfigurationError if the file is invalid or cannot be read."""
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
    """Read the file at `path`. `changed`, its modification time, is only a part of the cache's key."""
    jar = YoutubeDLCookieJar(path)
    jar.load()
    return jar
