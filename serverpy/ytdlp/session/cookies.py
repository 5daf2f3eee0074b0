"""Cookie jars: each session has a jar of its own, which at first contains copies of the cookies of another jar."""

from __future__ import annotations

import copy
import functools
import http.cookiejar
import os

from yt_dlp.cookies import YoutubeDLCookieJar

from serverpy.errors import ConfigurationError


def copy_cookies(*jars: http.cookiejar.CookieJar | None) -> YoutubeDLCookieJar:
    """Return a new jar with copies of the cookies in the last of `jars` that is not None."""
    copied = YoutubeDLCookieJar()
    last = [jar for jar in jars if jar is not None][-1:]
    for jar in last:
        for cookie in jar:
            copied.set_cookie(copy.copy(cookie))
    return copied


def cookies_of_file(path: str | None) -> YoutubeDLCookieJar | None:
    """Return the cookies that COOKIES_FILE contains now. Returns None if COOKIES_FILE is not set. The caller must copy
    the jar, and must not change it. Raises ConfigurationError if the file is invalid or cannot be read."""
    if not path:
        return None
    try:
        return _read_cookies(path, os.stat(path).st_mtime_ns)
    except http.cookiejar.LoadError as error:
        raise ConfigurationError(
            "COOKIES_FILE is not a cookie file in Netscape format; export the cookies in that format."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"COOKIES_FILE cannot be read: {error.strerror}.") from error


@functools.lru_cache(maxsize=1)
def _read_cookies(path: str, changed: int) -> YoutubeDLCookieJar:
    """Read the cookie file at `path`. `changed` is the modification time of the file; the function does not use it, but
    it is part of the key of the cache."""
    jar = YoutubeDLCookieJar(path)
    jar.load()
    return jar
