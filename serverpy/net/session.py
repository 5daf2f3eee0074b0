"""The session of an extraction with media servers. The session sends the headers of the extraction with every request,
sends each cookie of the extraction only to the cookie's domain, and follows redirects itself.

For each redirect, the session selects the cookies again by domain and path (RFC 6265 §5.4), because it would otherwise
leak cookies to other sites, as yt-dlp once did (GHSA-v8mc-9377-rwjj). The session also keeps the cookies that media
servers set. The guard checks the address of each redirect, because each redirect is a new request of the `Client`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serverpy.extraction.values import Cookie
from serverpy.net.bounds import note
from serverpy.net.client import Client, Response
from serverpy.net.cookies import CookieJar
from serverpy.net.http1 import Request
from serverpy.net.urls import BLANKS, Origin, RedirectFailed, redirected, split, without_user_info

MAX_REDIRECTS = 20
MAX_CREDENTIALS = 16
MAX_LOCATION = 8192
"""Maximum length of the URL of a redirect, in characters."""
_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
_BOUND_TO_ORIGIN = frozenset({"authorization", "cookie", "proxy-authorization"})


class Session:
    """A session that opens URLs with the headers and cookies of one extraction. A session holds no connection, so the
    owner need not close it."""

    def __init__(self, client: Client, headers: Mapping[str, str], cookies: Iterable[Cookie] = ()) -> None:
        self._client = client
        self._headers = {
            name: value for name, value in headers.items() if name.lower() not in ("accept-encoding", "range", "cookie")
        }
        self._jar = CookieJar(cookies)
        self._credentials: dict[Origin, str] = {}
        """Maps an origin to the value of the Authorization header, if a URL with that origin contained a user name or
        password."""

    async def open(self, url: str, extra: Mapping[str, str], body: bytes | None = None) -> Response:
        """Open `url`, follow redirects, and return the final response, whatever its status is. A user name and password
        in a URL become Basic authorization for all requests to that origin; the URL of the response contains neither a
        user name nor a password.

        Raises the errors of `Client.open`; `RedirectFailed` if there are too many redirects, or if a redirect leads to
        an earlier request or to an invalid URL; `UpstreamFailed` if a redirect leads to a URL that is not http or
        https."""
        url, origin = self._locate(url)
        # `seen` contains hashes of the requests, because the media servers decide how long the URLs are
        begun_at, seen = origin, set[int]()
        for _ in range(MAX_REDIRECTS + 1):
            request = self._request(url, origin, extra, body, trusted=_is_same(begun_at, origin))
            if hash(request) in seen:
                raise RedirectFailed("The media server redirects in a loop.")
            response = await self._client.open(request)
            self._keep_cookies(url, response)
            location = (response.headers.get("location") or "").strip(BLANKS)
            response.headers = response.headers.lasting()
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            if len(location) > MAX_LOCATION:
                note("redirects")
                raise RedirectFailed("The media server redirects to a URL that is too long.")
            seen.add(hash(request))
            url, origin = self._locate(redirected(url, location))
            if response.status in (301, 302, 303):
                body = None  # after 301, 302 and 303, a POST becomes a GET (RFC 9110 §15.4)
        note("redirects")
        raise RedirectFailed("The media server redirects too many times.")

    def _locate(self, url: str) -> tuple[str, Origin]:
        """Return `url` without user name and password, and the origin of `url`. Keeps the user name and password in
        `url` as credentials for that origin."""
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
        if cookie := self._jar.header_for(*split(url)):
            headers["Cookie"] = cookie
        return Request(url=url, headers=tuple(headers.items()), body=body)

    def _keep_cookies(self, url: str, response: Response) -> None:
        if fields := response.headers.all("set-cookie"):
            self._jar.receive(fields, *split(url))


def has_cookie_for(url: str, cookies: Iterable[Cookie]) -> bool:
    """Return whether a request for `url` would send any of `cookies`."""
    return CookieJar(cookies).header_for(*split(url)) is not None


def _is_same(first: Origin, then: Origin) -> bool:
    """Return whether a request to the origin `then` may carry the credentials for the origin `first`. This is so if the
    two origins are equal, or if `first` is http and `then` is https on the same host, both on the default port."""
    upgraded = (first.scheme, first.port, then.scheme, then.port) == ("http", 80, "https", 443)
    return first == then or (upgraded and first.host == then.host)
