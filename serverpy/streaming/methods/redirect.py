"""The method `redirect`, which redirects the client to the URL of the media. No bytes of the media pass through this
server.

The client lacks what this server may use to fetch media: the headers and cookies of the extraction, and the network
address of the server. So the opener redirects only to media that a client can fetch without them. yt-dlp adds a Referer
to many formats whose media servers do not require one; the opener then finds out by one request without Referer. A URL
that works only for the client that extracted it can be recognized if it contains that client's network address. Some
sites hide the address in a token instead, and their media servers refuse the redirected client.
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
"""Headers that every client sends, with values of its own, besides `Sec-Fetch-*`. yt-dlp adds them to every format."""
_OF_PAGE = frozenset({"referer", "origin"})
"""Headers that name the page. yt-dlp adds them to many formats, even if the media server does not require them."""
_BROWSER = "Mozilla/5.0 "
_ADDRESS_NAMES = frozenset(
    {"ip", "ipaddr", "ipaddress", "ipbits", "cip", "clientip", "remoteip", "srcip", "userip", "viewerip"}
)
"""Names of URL parameters, in lower case and without `_` and `-`, whose value is the network address of the only client
for which the URL works. The value may be encoded."""
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")


class Redirect:
    """The opener for redirects. Its body has no bytes; `location` of the head is the URL of the media. The guard must
    allow all addresses of the URL's host. If the client is on another machine, these addresses must also be public: the
    client could not reach an internal address, and must not learn it."""

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
        """Return whether a client can fetch `track` without this server, according to the track itself. Cookies,
        network addresses and a Referer are checked by `open`."""
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
        """Return whether the media server sends the media without the headers that name the page (Referer, Origin).
        Returns True, without a request, if the extraction added no such header. Raises the errors of `Session.open`."""
        headers = {name: value for name, value in track.headers.items() if name.lower() not in _OF_PAGE}
        if len(headers) == len(track.headers):
            return True
        response = await Session(self._client, headers).open(track.url, {"Range": "bytes=0-0"})
        response.close()
        return response.status in (200, 206) and not (response.headers.get("content-type") or "").startswith("text/")


def _is_public(address: str) -> bool:
    """Return whether every client can reach `address`. A name, which a proxy resolves, is not one of a private network:
    the guard has checked this."""
    try:
        return is_public(ip_address(address))
    except ValueError:
        return True


def _is_special(name: str, value: str) -> bool:
    """Return whether the media server may require the header, because an ordinary client does not send it with this
    value. Returns False for the headers that name the page, which `open` tests by a request."""
    lower = name.lower()
    if lower == "user-agent":
        return not value.startswith(_BROWSER)
    return lower not in _USUAL_HEADERS | _OF_PAGE and not lower.startswith("sec-fetch-")


def is_bound(url: str) -> bool:
    """Return whether `url` must not be passed on to the client. A network address in the URL suggests that it works
    only for that address; a user name is a secret. Also returns True if the URL cannot be parsed."""
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
