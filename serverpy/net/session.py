"""The session of an extraction with media servers. It sends the extraction's headers with every request and its cookies
to their domains, and follows redirects itself.

For each redirect, cookies are selected again by domain and path (RFC 6265 §5.4; a leak here was yt-dlp's
GHSA-v8mc-9377-rwjj). The session also keeps the cookies that media servers set. The guard checks the address of each
redirect, because each redirect is a new request of the `Client`.
"""

from __future__ import annotations

import email.message
import urllib.request
from collections.abc import Iterable, Mapping
from http.client import HTTPResponse
from http.cookiejar import Cookie as JarCookie
from http.cookiejar import CookieJar
from typing import cast

from serverpy.extraction.values import Cookie
from serverpy.net.client import Client, Response
from serverpy.net.http1 import Headers, Request
from serverpy.net.urls import BLANKS, Origin, RedirectFailed, redirected, split, without_user_info

MAX_REDIRECTS = 20
MAX_CREDENTIALS = 16
_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
_BOUND_TO_ORIGIN = frozenset({"authorization", "cookie", "proxy-authorization"})


class Session:
    """A session that opens URLs with the headers and cookies of one extraction. It holds no connection, so its owner
    need not close it."""

    def __init__(self, client: Client, headers: Mapping[str, str], cookies: Iterable[Cookie] = ()) -> None:
        self._client = client
        self._headers = {
            name: value for name, value in headers.items() if name.lower() not in ("accept-encoding", "range", "cookie")
        }
        self._jar = _jar_of(cookies)
        self._credentials: dict[Origin, str] = {}
        """The values of the Authorization header, for origins whose URLs contained a user name."""

    async def open(self, url: str, extra: Mapping[str, str], body: bytes | None = None) -> Response:
        """Open `url`, follow redirects, and return the final response, whatever its status. A user name and password in
        a URL become Basic authorization for all requests to that origin; the URL of the response has neither.

        Raises the errors of `Client.open`; `RedirectFailed` if there are too many redirects, or if a redirect leads
        back to the same request or to an invalid URL; `UpstreamFailed` if a redirect leads to a URL that is not http or
        https."""
        url, origin = self._locate(url)
        begun_at, seen = origin, set[Request]()
        for _ in range(MAX_REDIRECTS + 1):
            request = self._request(url, origin, extra, body, trusted=_is_same(begun_at, origin))
            if request in seen:
                raise RedirectFailed("The media server redirects in a loop.")
            response = await self._client.open(request)
            self._keep_cookies(url, response.headers)
            location = (response.headers.get("location") or "").strip(BLANKS)
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            seen.add(request)
            url, origin = self._locate(redirected(url, location))
            if response.status in (301, 302, 303):
                body = None  # after 301, 302 and 303, a POST becomes a GET (RFC 9110 §15.4)
        raise RedirectFailed("The media server redirects too many times.")

    def _locate(self, url: str) -> tuple[str, Origin]:
        """Return the URL without user name and password, and its origin. Keeps the credentials in `url` for that
        origin."""
        url, credentials = without_user_info(url)
        origin = split(url)[0]
        if credentials is not None and (origin in self._credentials or len(self._credentials) < MAX_CREDENTIALS):
            self._credentials[origin] = credentials
        return url, origin

    def _request(
        self, url: str, origin: Origin, extra: Mapping[str, str], body: bytes | None, *, trusted: bool
    ) -> Request:
        headers = {**self._headers, **extra, "Accept-Encoding": "identity"}
        if not trusted:
            headers = {name: value for name, value in headers.items() if name.lower() not in _BOUND_TO_ORIGIN}
        if credentials := self._credentials.get(origin):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = credentials
        cookie = _cookie_header(self._jar, url)
        if cookie:
            headers["Cookie"] = cookie
        return Request(url=url, headers=tuple(headers.items()), body=body)

    def _keep_cookies(self, url: str, headers: Headers) -> None:
        fields = headers.all("set-cookie")
        if not fields:
            return
        message = email.message.Message()
        for field in fields:
            message["Set-Cookie"] = field
        request = urllib.request.Request(url)
        self._jar.extract_cookies(cast(HTTPResponse, _Info(message)), request)


def has_cookie_for(url: str, cookies: Iterable[Cookie]) -> bool:
    """Return whether a request for `url` carries any of `cookies`."""
    return _cookie_header(_jar_of(cookies), url) is not None


def _jar_of(cookies: Iterable[Cookie]) -> CookieJar:
    jar = CookieJar()
    for cookie in cookies:
        jar.set_cookie(_to_jar(cookie))
    return jar


def _cookie_header(jar: CookieJar, url: str) -> str | None:
    if not len(jar):
        return None
    request = urllib.request.Request(url)  # a dummy request that only the cookie jar reads
    jar.add_cookie_header(request)
    return request.get_header("Cookie")


def _is_same(first: Origin, then: Origin) -> bool:
    """Return whether a request to the origin `then` may have the credentials for the origin `first`: both are equal, or
    `then` is the https version of `first` on the same host and the default ports."""
    upgraded = (first.scheme, first.port, then.scheme, then.port) == ("http", 80, "https", 443)
    return first == then or (upgraded and first.host == then.host)


class _Info:
    """The methods of a response that `CookieJar.extract_cookies` calls."""

    def __init__(self, message: email.message.Message) -> None:
        self._message = message

    def info(self) -> email.message.Message:
        return self._message


def _to_jar(cookie: Cookie) -> JarCookie:
    return JarCookie(
        version=0,
        name=cookie.name,
        value=cookie.value,
        port=None,
        port_specified=False,
        domain=cookie.domain,
        domain_specified=cookie.domain.startswith("."),
        domain_initial_dot=cookie.domain.startswith("."),
        path=cookie.path,
        path_specified=True,
        secure=cookie.secure,
        expires=cookie.expires,
        discard=cookie.expires is None,
        comment=None,
        comment_url=None,
        rest={},
    )
