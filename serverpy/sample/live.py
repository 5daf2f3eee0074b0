"""Broadcasts: live HLS with a sliding window. New segments appear as time passes, or when a client asks for them. The
URL of a broadcast states its properties (`Show`), so a client gets a broadcast of its own if it adds a unique id.

The broadcast repeats one video. When the video restarts, the timestamps jump (EXT-X-DISCONTINUITY).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from serverpy.sample.catalogue import H264, H264_LOW
from serverpy.sample.content import Content, HeldContent, type_of
from serverpy.sample.cut import AAC, aes_128
from serverpy.sample.encode import SEGMENT_SECONDS
from serverpy.sample.hls import SEGMENTS
from serverpy.sample.make import HIGH, LOW
from serverpy.sample.shelf import BEHAVED, Misbehaviour, Shelf, with_token
from serverpy.sample.wire import Exchange

KEY = hashlib.sha256(b"live").digest()[:16]


@dataclass(frozen=True, slots=True)
class Show:
    """The properties of a broadcast. Numbers count segments unless stated otherwise."""

    clock: Literal["real", "step", "request"] = "real"
    """What adds segments. `real`: one after each segment duration since the first request. `step`: only calls of
    `Broadcast.step`. `request`: one after each request for the playlist."""
    speed: float = 1.0
    """With the clock `real`, how many times faster than real time segments are added. The playlist states segment
    durations that are shorter by the same factor."""
    window: int = 3
    begin: int | None = None
    """Number of segments that exist at the first request. The default is the number of segments in the window."""
    keep: int | None = None
    """Number of segments that stay available after they have left the window. The default is the number of segments in
    the window (RFC 8216 §6.2.2)."""
    ends: int | None = None
    """Number of segments that the broadcast has in total. None if the broadcast never ends."""
    target: int | None = None
    """Value of EXT-X-TARGETDURATION in seconds. The default is the duration of a segment, rounded up."""
    expire: int | None = None
    """Number of segments that are added before a URL becomes invalid. The URL contains a token, and each request for
    the page issues a new token."""
    signed: Literal["lists", "all"] = "lists"
    """The URLs that require a valid token: only those of playlists, or all. Every URL contains the token in either
    case."""
    kind: Literal["ts", "fmp4", "aes"] = "ts"
    quality: Literal["high", "low"] = "high"
    id: str = ""

    @property
    def seconds(self) -> float:
        """The duration of a segment in seconds."""
        return SEGMENT_SECONDS / self.speed

    def source(self, number: int) -> str:
        """Return the name of the media file that is segment `number`."""
        folder, suffix = ("fmp4", "m4s") if self.kind == "fmp4" else ("ts", "ts")
        return f"hls/{folder}/{self.quality}-{number % SEGMENTS}.{suffix}"


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"value must be one of {', '.join(choices)}: {text!r}")
        return text

    return read


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"the number must be a non-negative integer: {text!r}")
    return int(text)


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed <= 1000:
        raise ValueError(f"speed must be above 0 and at most 1000: {text!r}")
    return speed


_READERS: dict[str, Callable[[str], object]] = {
    "clock": _choice("real", "step", "request"),
    "speed": _speed,
    **dict.fromkeys(("window", "begin", "keep", "ends", "target", "expire"), _count),
    "signed": _choice("lists", "all"),
    "kind": _choice("ts", "fmp4", "aes"),
    "quality": _choice("high", "low"),
    "id": str,
}

SHOW_PARTS = tuple(_READERS)
"""Every name of a property that the URL of a broadcast may use."""


def parse_show(spec: str) -> Show:
    """Parse the properties of a broadcast: `clock=step,ends=6`, also written `clock-step,ends-6`. A part without a
    known name is the id. Raises ValueError if a value is invalid."""
    show = Show()
    for part in spec.split(","):
        match = re.fullmatch(r"([a-z]+)[=-](.+)", part)
        name, value = (match[1], match[2]) if match and match[1] in _READERS else ("id", part)
        show = replace(show, **{name: _READERS[name](value)})  # type: ignore[arg-type]  # each function in `_READERS` returns the right type
    return show


class Broadcast:
    """One broadcast, from its first request until the site stops. Any thread may call `step`. `now` returns the time in
    seconds, counted from any starting point."""

    def __init__(self, show: Show, now: Callable[[], float] = time.monotonic) -> None:
        self.show = show
        self._now = now
        self._since = now()
        self._steps = 0
        self._ended_at: int | None = show.ends
        self._tokens: dict[str, int] = {}

    @property
    def made(self) -> int:
        """The number of segments that have been added so far."""
        begin = self.show.window if self.show.begin is None else self.show.begin
        ran = (self._now() - self._since) / self.show.seconds if self.show.clock == "real" else 0
        made = begin + self._steps + int(ran)
        return made if self._ended_at is None else min(made, self._ended_at)

    def step(self, count: int = 1) -> None:
        """Add `count` segments immediately."""
        self._steps += count

    def end(self) -> None:
        """End the broadcast after the segments that exist now."""
        self._ended_at = self.made

    def issue(self) -> str:
        """Return a new token, which is valid while the next `expire` segments are added."""
        token = secrets.token_urlsafe(9)
        self._tokens[token] = self.made
        return token

    def admits(self, token: str) -> bool:
        if self.show.expire is None:
            return True
        return token in self._tokens and self.made < self._tokens[token] + self.show.expire

    @property
    def listed(self) -> range:
        """The numbers of the segments in the window, which the playlist lists."""
        made = self.made
        return range(max(made - self.show.window, 0), made)

    def has(self, number: int) -> bool:
        """Return whether the segment is available: it exists and has not yet been removed."""
        keep = self.show.window if self.show.keep is None else self.show.keep
        return self.listed.start - keep <= number < self.listed.stop

    def playlist(self) -> str:
        listed, show = self.listed, self.show
        target = max(math.ceil(show.seconds), 1) if show.target is None else show.target
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{target}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed.start}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{max(listed.start - 1, 0) // SEGMENTS}",
        ]
        if show.kind == "fmp4":
            lines.append('#EXT-X-MAP:URI="init.mp4"')
        if show.kind == "aes":
            lines.append('#EXT-X-KEY:METHOD=AES-128,URI="live.key"')
        for number in listed:
            if number and number % SEGMENTS == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += [f"#EXTINF:{show.seconds:.6f},", f"{number}.{'m4s' if show.kind == 'fmp4' else 'ts'}"]
        if listed.stop == self._ended_at:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def master(self) -> str:
        size, codec = (HIGH, H264) if self.show.quality == "high" else (LOW, H264_LOW)
        stream = f'#EXT-X-STREAM-INF:BANDWIDTH=5000000,RESOLUTION={size[0]}x{size[1]},CODECS="{codec},{AAC}"'
        return f"#EXTM3U\n{stream}\nindex.m3u8\n"


class Live:
    """Handler of `<spec>/<file>` for all broadcasts: the playlists, the segments, and the control paths `step`, `end`
    and `state`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._broadcasts: dict[str, Broadcast] = {}

    def broadcast(self, spec: str) -> Broadcast:
        """Return the broadcast with the properties `spec`. The first call starts it. Raises ValueError if `spec` is
        invalid."""
        if spec not in self._broadcasts:
            self._broadcasts.setdefault(spec, Broadcast(parse_show(spec)))
        return self._broadcasts[spec]

    def address(self, spec: str) -> str:
        """Return `<spec>/master.m3u8`, with a new token if the broadcast's tokens expire. Raises ValueError if `spec`
        is invalid."""
        broadcast = self.broadcast(spec)
        token = "" if broadcast.show.expire is None else f"?token={broadcast.issue()}"
        return f"{spec}/master.m3u8{token}"

    async def __call__(self, exchange: Exchange, path: str, how: Misbehaviour = BEHAVED) -> None:
        spec, _, file = path.partition("/")
        try:
            broadcast = self.broadcast(spec)
        except ValueError as error:
            await exchange.refuse(400, str(error))
            return
        if file in ("step", "end", "state"):
            await _control(exchange, broadcast, file)
        elif not _admitted(broadcast, file, exchange.request.query.get("token", "")):
            await exchange.refuse(403, "the token is unknown or has expired")
        elif (content := self._content(broadcast, file, exchange.request.query.get("token"))) is None:
            await exchange.refuse(404, "no such file, or the segment does not exist yet or any more")
        else:
            await self._shelf.send_content(exchange, content, how)
            if broadcast.show.clock == "request" and (file, exchange.request.method) == ("index.m3u8", "GET"):
                broadcast.step()

    def _content(self, broadcast: Broadcast, file: str, token: str | None) -> Content | None:
        if file in ("master.m3u8", "index.m3u8"):
            text = broadcast.master() if file == "master.m3u8" else broadcast.playlist()
            return _held(file, (text if token is None else with_token(text, token)).encode(), broadcast.made)
        if file == "live.key":
            return _held(file, KEY)
        if file == "init.mp4":
            return self._shelf.find(f"hls/fmp4/{broadcast.show.quality}-init.mp4")
        match = re.fullmatch(r"(\d{1,9})\.(?:ts|m4s)", file)
        if not match or not broadcast.has(int(match[1])):
            return None
        return self._segment(broadcast.show, int(match[1]))

    def _segment(self, show: Show, number: int) -> Content | None:
        content = self._shelf.find(show.source(number))
        if content is None or show.kind != "aes":
            return content
        plain = b"".join(content.pieces(0, content.size))
        return _held("0.ts", aes_128(plain, KEY, number.to_bytes(16, "big")))


def _held(name: str, data: bytes, version: int = 0) -> HeldContent:
    return HeldContent(data, type_of(name), float(version))


def _admitted(broadcast: Broadcast, file: str, token: str) -> bool:
    return broadcast.admits(token) or (broadcast.show.signed == "lists" and not file.endswith(".m3u8"))


async def _control(exchange: Exchange, broadcast: Broadcast, file: str) -> None:
    """Handle `step?by=<n>`, `end` and `state`, requested by any HTTP method. Each responds with the state of the
    broadcast."""
    by = exchange.request.query.get("by", "1")
    if file == "step":
        if not by.isdecimal():
            await exchange.refuse(400, "by must be a number of segments")
            return
        broadcast.step(int(by))
    elif file == "end":
        broadcast.end()
    listed = broadcast.listed
    state = {"made": broadcast.made, "listed": [listed.start, listed.stop]}
    await exchange.reply(200, json.dumps(state).encode(), "application/json")
