"""The method `redirect`, which sends the client to the media's own address and carries no bytes.

The client has none of what this server may use to fetch media: the extraction's headers and cookies, and the network
address of the server. So only media that needs none of them is redirected to. yt-dlp gives many formats a Referer that
their servers do not ask for; for these, the server asks once without it. That an address is bound to the client that
extracted it shows in its URL, if at all: some sites hide it in a token, and then refuse the client.
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
"""Headers that every client sends in some form, besides `Sec-Fetch-*`. yt-dlp adds them to every format."""
_OF_PAGE = frozenset({"referer", "origin"})
"""Headers that name the page. yt-dlp adds them on suspicion."""
_BROWSER = "Mozilla/5.0 "
_ADDRESS_NAMES = frozenset(
    {"ip", "ipaddr", "ipaddress", "ipbits", "cip", "clientip", "remoteip", "srcip", "userip", "viewerip"}
)
"""Parameters, without `_` and `-`, whose value is the address that the URL is bound to, in clear or encoded."""
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")


class Redirect:
    """The opener that answers with the address of the media. The guard must allow the address, and if the client is not
    on this machine, the address must be public: an internal address is neither of use to the client, nor meant for
    it."""

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
        """Return whether a client can fetch the track without this server, as far as the track itself shows."""
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
            raise UpstreamTimeout("The host name of the media does not resolve in time.") from error
        is_reachable = source.is_local or all(is_public(ip_address(address)) for address in addresses)
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
        """Return whether the media server sends media to a client that does not name the page. Asks the server only if
        the extraction names the page. Raises the errors of `Session.open`."""
        headers = {name: value for name, value in track.headers.items() if name.lower() not in _OF_PAGE}
        if len(headers) == len(track.headers):
            return True
        response = await Session(self._client, headers).open(track.url, {"Range": "bytes=0-0"})
        response.close()
        return response.status in (200, 206) and not (response.headers.get("content-type") or "").startswith("text/")


def _is_special(name: str, value: str) -> bool:
    """Return whether a header differs from what an ordinary client sends."""
    lower = name.lower()
    if lower == "user-agent":
        return not value.startswith(_BROWSER)
    return lower not in _USUAL_HEADERS | _OF_PAGE and not lower.startswith("sec-fetch-")


def is_bound(url: str) -> bool:
    """Return whether `url` may work only for one client, or must not be passed on: it contains a network address, or a
    user name."""
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
