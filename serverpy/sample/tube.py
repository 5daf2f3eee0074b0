"""The server of an invented video site, which the yt-dlp plugin `SampleTube` extracts. It is as strict as real sites:
it responds with 403 to every URL under `/tube/media/` unless the request has the header `X-Tube-Token` with a token
from the site's API, and the cookie that the page sets (HttpOnly, only for that path).
"""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any

from serverpy.sample import pages
from serverpy.sample.catalogue import CHUNK_BYTES, ERRORS, POST_BODY, RENDITIONS, SIGNATURE, TRAPS, WATCH, duration_of
from serverpy.sample.encode import PHOTO
from serverpy.sample.faults import parse_faults
from serverpy.sample.live import Live
from serverpy.sample.make import PHOTOS
from serverpy.sample.ranges import asked_span
from serverpy.sample.shelf import BEHAVED, Misbehaviour, Shelf
from serverpy.sample.wire import Exchange

COOKIE = "tube_session"
TOKEN_HEADER = "x-tube-token"
PAGE_ITEMS = 10
LATER_SECONDS = 2

KINDS = frozenset({"watch", "playlist", "post", "live", "audio"})

_SPECIAL = re.compile(r"^(?:chunked|post|signed)/")

Json = dict[str, Any]

_FILM: Json = {"path": "/tube/watch/item-2", "id": "item-2", "title": "The second item"}
ODD_PLAYLISTS: dict[str, tuple[Json, ...]] = {
    "own-addresses": ({**_FILM, "own": True}, {**_FILM, "own": True, "path": "/tube/watch/gone"}),
    "transparent": (
        {**_FILM, "title": "Its title in the list", "transparent": True, "fields": {"duration": 7}},
        {**_FILM, "title": None, "transparent": True, "fields": {"duration": 7, "uploader": None}},
        {**_FILM, "title": "Its title in the list", "transparent": True, "own": True, "fields": {"duration": 8.5}},
    ),
    "keyless": (
        {**_FILM, "path": "/media/prog-180.mp4", "keyless": True},
        {**_FILM, "keyless": True},
        {**_FILM, "keyless": True, "own": True},
        {**_FILM, "path": "/media/audio.mp3", "title": "Its title in the list", "keyless": True, "transparent": True},
    ),
    "first-gone": (
        *({**_FILM, "path": f"/tube/watch/{name}"} for name in ("gone", "login", "missing")),
        {**_FILM, "path": "/tube/playlist/list-12"},
        _FILM,
    ),
    "all-gone": tuple({**_FILM, "path": f"/tube/watch/{name}"} for name in ("login", "gone")),
}
"""Playlists with special items: items at addresses that only yt-dlp knows (`own`), items whose fields replace those of
their pages (`transparent`), items that name no extractor (`keyless`), and items without media."""


class Tube:
    """The handler of `/tube/…`. It remembers the sessions and tokens that it has issued until the site stops."""

    def __init__(self, shelf: Shelf, live: Live) -> None:
        self._shelf = shelf
        self._live_shows = live
        self._sessions: set[str] = set()
        self._tokens: dict[str, float] = {}
        """Time at which each token becomes valid, in seconds since the epoch."""

    async def __call__(self, exchange: Exchange, rest: str) -> None:
        first, _, name = rest.partition("/")
        if first == "media":
            await self._media(exchange, name)
        elif first == "api":
            await self._api(exchange, name)
        elif first in KINDS:
            await self._page(exchange, first, name)
        else:
            await exchange.refuse(404, "no such address")

    async def _page(self, exchange: Exchange, kind: str, name: str) -> None:
        if (kind, name) == ("watch", "slow"):
            await exchange.connection.closed.wait()
            return
        session = secrets.token_urlsafe(12)
        self._sessions.add(session)
        cookie = f"{COOKIE}={session}; Path=/tube/media; HttpOnly; SameSite=Lax"
        page = pages.html(f"SampleTube: {name}", '<div id="player"></div>')
        await exchange.reply(200, page, "text/html; charset=utf-8", {"Set-Cookie": cookie})

    async def _api(self, exchange: Exchange, rest: str) -> None:
        kind, _, name = rest.partition("/")
        answer = self._describe(exchange, kind, name)
        status = 404 if answer is None else 200
        await exchange.reply(status, json.dumps(answer or {"error": "unknown"}).encode(), "application/json")

    def _describe(self, exchange: Exchange, kind: str, name: str) -> Json | None:
        if kind == "watch" and name.startswith("fault/"):
            return self._faulty(*name.removeprefix("fault/").split("/", 1))
        if kind == "watch":
            return self._watch(name)
        if kind == "audio":
            return self._details(name, f"Only sound: {name}", ("m4a", "mp3"))
        if kind == "live":
            return self._live(name)
        if kind == "post":
            return self._post(name)
        if kind == "playlist":
            return _playlist(name, int(exchange.request.query.get("page", "1")))
        return None

    def _watch(self, name: str) -> Json | None:
        if name in ERRORS:
            return {"id": name, "error": name}
        if name == "crash":
            return {"id": name}
        item = re.fullmatch(r"item-\d+", name)
        formats = ("360",) if item else (WATCH | TRAPS).get(name)
        if formats is None:
            return None
        details = self._details(name, f"SampleTube film: {name}", formats)
        if name == "later":
            available_at = math.ceil(time.time() + LATER_SECONDS)
            details |= {"available_at": available_at, "token": self._issue(available_at)}
        return details

    def _faulty(self, spec: str, name: str = "") -> Json | None:
        """Describe the video `name` with media that have the faults `spec`. If the faults let tokens expire, each
        format has a token of its own. Returns None if there is no such video or `spec` is invalid."""
        try:
            faults = parse_faults(spec)
        except ValueError:
            return None
        details = self._watch(name)
        for described in (details or {}).get("formats", ()):
            described["path"] = described["path"].replace("/tube/media/", f"/tube/media/fault/{spec}/")
            if faults.expire is not None:
                described["path"] += f"?token={self._shelf.tokens.issue(faults.expire)}"
        return details

    def _details(self, name: str, title: str, formats: tuple[str, ...]) -> Json:
        return {
            "id": name,
            "title": title,
            "uploader": "The Sample Channel",
            "duration": duration_of(name),
            "thumbnail": "/media/photo-1.jpg",
            "token": self._issue(),
            "formats": [self._format(key) for key in formats],
            "subtitles": {"en": "/media/subs.en.vtt", "de": "/media/subs.de.vtt"},
            "captions": {"en": "/media/subs.en.vtt"},
        }

    def _issue(self, good_from: float = 0.0) -> str:
        token = secrets.token_urlsafe(12)
        self._tokens[token] = good_from
        return token

    def _format(self, key: str) -> Json:
        rendition = RENDITIONS[key]
        content = self._shelf.find(rendition.file)
        assert content
        width, height = rendition.size or (None, None)
        return {
            "id": key,
            "path": f"/tube/media/{rendition.path}",
            "ext": rendition.ext,
            "protocol": rendition.protocol,
            "bytes": content.size,
            "width": width,
            "height": height,
            "vcodec": rendition.vcodec,
            "acodec": rendition.acodec,
            **dict(rendition.extra),
        }

    def _live(self, name: str) -> Json | None:
        """Describe the broadcast with the path `name`: `<show>`, or `fault/<spec>/<show>` for a broadcast with faults.
        Returns None if there is no such show."""
        prefix, _, show = name.rpartition("/")
        try:
            address = self._live_shows.address(show)
        except ValueError:
            return None
        return {
            "id": name,
            "title": f"Live: {name}",
            "uploader": "The Sample Channel",
            "token": self._issue(),
            "path": f"/tube/media/{prefix + '/' if prefix else ''}live/{address}",
        }

    def _post(self, name: str) -> Json:
        numbers = range(1, PHOTOS + 1)
        images = [{"path": f"/tube/media/photo-{n}.jpg", "width": PHOTO[0], "height": PHOTO[1]} for n in numbers]
        music = "/tube/media/audio.m4a" if "music" in name else None
        title = f"Photos: {name}"
        return {"id": name, "title": title, "token": self._issue(), "images": images, "music": music}

    async def _media(self, exchange: Exchange, path: str) -> None:
        if not self._admits(exchange):
            await exchange.refuse(403, "the token or the session is missing, invalid, or not valid yet")
        elif path.startswith("live/"):
            await self._live_shows(exchange, path.removeprefix("live/"))
        elif path.startswith("fault/"):
            await self._faulty_film(exchange, *path.removeprefix("fault/").split("/", 1))
        else:
            await self._film(exchange, path)

    async def _faulty_film(self, exchange: Exchange, spec: str, path: str = "") -> None:
        try:
            how = self._shelf.misbehave(spec, f"tube/{path}")
        except ValueError as error:
            await exchange.refuse(400, str(error))
            return
        if path.startswith("live/"):
            await self._live_shows(exchange, path.removeprefix("live/"), how)
        else:
            await self._film(exchange, path, how)

    async def _film(self, exchange: Exchange, path: str, how: Misbehaviour = BEHAVED) -> None:
        if path.startswith("chunked/") and not _is_small_range(exchange):
            await exchange.refuse(403, f"only ranges of at most {CHUNK_BYTES} bytes are allowed")
        elif path.startswith("post/") and (exchange.request.method, exchange.request.body) != ("POST", POST_BODY):
            await exchange.refuse(403, "only POST with the signed body is allowed")
        elif path.startswith("signed/") and not _is_signed(exchange):
            await exchange.refuse(403, "the signature in the query is missing or invalid")
        else:
            await self._shelf.send(exchange, _SPECIAL.sub("", path), how)

    def _admits(self, exchange: Exchange) -> bool:
        headers = exchange.request.headers
        try:
            session = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        good_from = self._tokens.get(headers.get(TOKEN_HEADER, ""), math.inf)
        return session is not None and session.value in self._sessions and good_from <= time.time()


def _is_signed(exchange: Exchange) -> bool:
    """Return whether the URL of the request has the signature. Playlists need no signature, but the files that they
    list do."""
    return exchange.request.path.endswith(".m3u8") or exchange.request.query.get("sig") == SIGNATURE


def _is_small_range(exchange: Exchange) -> bool:
    header = exchange.request.headers.get("range", "")
    # The file size is assumed to be huge, so that a range without an end counts as long.
    span = asked_span(header, 1 << 62)
    return exchange.request.method == "HEAD" or (span is not None and span.length <= CHUNK_BYTES)


def _playlist(name: str, page: int) -> Json | None:
    """Return page number `page` of the playlist `list-<n>`. Returns None if `name` does not have the form
    `list-<n>`."""
    if name in ODD_PLAYLISTS:
        return {"id": name, "title": name, "count": len(ODD_PLAYLISTS[name]), "items": ODD_PLAYLISTS[name]}
    match = re.fullmatch(r"list-(\d+)", name)
    if not match:
        return None
    count = int(match[1])
    numbers = range((page - 1) * PAGE_ITEMS + 1, min(page * PAGE_ITEMS, count) + 1)
    items = [{"path": f"/tube/watch/item-{n}", "id": f"item-{n}", "title": f"Item {n}"} for n in numbers]
    return {"id": name, "title": f"A playlist of {count}", "count": count, "items": items}
