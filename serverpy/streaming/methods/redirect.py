"""The method `redirect`, which redirects the client to the URL of the media. No bytes of the media pass through this
server.

This server fetches media with the headers and cookies of the extraction, and from its own network address. The client
has none of these, so the opener redirects only to media that a client can fetch without them. yt-dlp adds a Referer to
many formats whose media servers do not require a Referer. In this case the opener sends one request without Referer to
see whether the media server accepts it. A URL that works only from the network address from which it was extracted is
recognized if it contains that address. Some sites hide the address in a token instead: their media servers then refuse
the redirected client.
"""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote, urlsplit

from serverpy.body import SESSION_BYTES, Body, Head, HeadOnly, Source
from serverpy.containers import BY_EXTENSION, UNKNOWN
from serverpy.errors import UnsupportedConversion, UpstreamTimeout
from serverpy.extraction.values import Track
from serverpy.memory.room import Lender
from serverpy.net.client import Client
from serverpy.net.guard import is_public
from serverpy.net.session import Session, has_cookie_for
from serverpy.net.urls import split
from serverpy.options import Identity, Timeouts
from serverpy.plan import NO_REDIRECT, Capability, Plan

_USUAL_HEADERS = frozenset({"user-agent", "accept", "accept-encoding", "accept-language", "connection"})
"""Headers that every client sends with values of its own, in addition to the `Sec-Fetch-*` headers. yt-dlp adds these
headers to every format."""
_OF_PAGE = frozenset({"referer", "origin"})
"""Headers that name the page that links to the media. yt-dlp adds these headers to many formats, even if the media
server does not require them."""
_BROWSER = "Mozilla/5.0 "
_ADDRESS_NAMES = frozenset(
    {"ip", "ipaddr", "ipaddress", "ipbits", "cip", "clientip", "remoteip", "srcip", "userip", "viewerip"}
)
"""Names of URL parameters, in lower case and without `_` and `-`, whose value is the network address of the only client
for which the URL works. The value may be encoded."""
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")


class Redirect:
    """The opener for redirects. The body that it opens has no bytes; the field `location` of the head is the URL of the
    media. The guard must allow all addresses of the URL's host. If the client is on another machine, these addresses
    must also be public, because the client could not reach an internal address, and must not learn of it."""

    def __init__(self, client: Client, timeouts: Timeouts = Timeouts(), identity: Identity = Identity()) -> None:
        self._client = client
        self._connect_seconds = timeouts.connect
        self._impersonate = identity.impersonate is not None
        self.capability = Capability(
            opener="redirect",
            method="redirect",
            stream_bytes=SESSION_BYTES,
            carries=self.carries,
            bytes_for=lambda tracks: SESSION_BYTES,
            automatic=False,
            redirects=True,
        )

    def carries(self, track: Track) -> bool:
        """Return whether a client can fetch `track` without this server, as far as the fields of `track` show. `open`
        checks cookies, network addresses and the Referer."""
        return (
            track.protocol in ("http", "https")
            and not (track.fragments or track.fragments_dynamic or track.needs_ytdlp)
            and not (track.has_drm or track.refusal or track.impersonate or self._impersonate)
            and track.request_data is None
            and track.available_at is None
            and not any(_is_special(name, value) for name, value in track.headers.items())
            and not is_bound(track.url)
        )

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> Body:
        (track,) = plan.tracks
        media = source.media
        assert media is not None
        origin, target = split(track.url)
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await self._client.resolve(origin)
        except TimeoutError as error:
            raise UpstreamTimeout("The host name of the media server could not be resolved in time.") from error
        is_reachable = source.grant.is_local or all(map(_is_public, addresses))
        if not is_reachable or has_cookie_for(track.url, media.cookies):
            raise UnsupportedConversion(NO_REDIRECT)
        if not await self._needs_no_page(track):
            raise UnsupportedConversion(NO_REDIRECT)
        return HeadOnly(
            Head(
                content_type=BY_EXTENSION.get(track.file_ext, UNKNOWN).content_type,
                ext=track.file_ext,
                title=media.title,
                location=f"{origin.scheme}://{origin.host_header}{target}",
            )
        )

    async def _needs_no_page(self, track: Track) -> bool:
        """Return whether the media server sends the media if the request lacks the headers that name the page (Referer,
        Origin). Returns True without a request if the extraction contains no such header. Raises the errors of
        `Session.open`."""
        headers = {name: value for name, value in track.headers.items() if name.lower() not in _OF_PAGE}
        if len(headers) == len(track.headers):
            return True
        response = await Session(self._client, headers).open(track.url, {"Range": "bytes=0-0"})
        response.close()
        return response.status in (200, 206) and not (response.headers.get("content-type") or "").startswith("text/")


def _is_public(address: str) -> bool:
    """Return whether every client can reach `address`. Returns True for a host name that the operator's proxy resolves:
    the guard has already refused names of private networks."""
    try:
        return is_public(ip_address(address))
    except ValueError:
        return True


def _is_special(name: str, value: str) -> bool:
    """Return whether the header is one that an ordinary client does not send with this value, so that the media server
    may require it. Returns False for the headers that name the page, because `open` tests by a request whether these
    are required."""
    lower = name.lower()
    if lower == "user-agent":
        return not value.startswith(_BROWSER)
    return lower not in _USUAL_HEADERS | _OF_PAGE and not lower.startswith("sec-fetch-")


def is_bound(url: str) -> bool:
    """Return whether `url` must not be passed on to the client. If the URL contains a network address, it probably
    works only for that address. If it contains a user name, the user name is a secret. Returns True also if the URL
    cannot be parsed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    query = parse_qsl(parts.query, keep_blank_values=True)
    words = [unquote(part) for part in parts.path.split("/")]
    names = [*(name for name, _ in query), *words]
    values = [*(value for _, value in query), *words]
    return (
        parts.username is not None
        or any(re.sub("[-_]", "", name.lower()) in _ADDRESS_NAMES for name in names)
        or any(_IPV4.search(value) or _is_ipv6(value) for value in values)
    )


def _is_ipv6(text: str) -> bool:
    try:
        return ":" in text and bool(ip_address(text.strip("[]")))
    except ValueError:
        return False
