"""All files of the sample site by name, and the faults of each URL. The site and SampleTube share one `Shelf`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from serverpy.sample import pages
from serverpy.sample.content import ChangedContent, Content, FileContent, HeldContent, large_content
from serverpy.sample.faults import Faults, Tokens, parse_faults
from serverpy.sample.hostile import hostile
from serverpy.sample.media import NO_FAULTS, serve
from serverpy.sample.wire import Exchange, Request

_URI_ATTRIBUTE = re.compile(r'(?<=URI=")[^"]+')


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """The faults of a URL. `turn` is the number of requests to that URL before the current one."""

    faults: Faults = NO_FAULTS
    turn: int = 0

    @property
    def now(self) -> Faults:
        """The faults of this request. There are none after `times` requests have misbehaved."""
        over = self.faults.times is not None and self.turn >= self.faults.times
        return NO_FAULTS if over else self.faults


BEHAVED = Misbehaviour()


class Shelf:
    """The files under `directory`, and the files that are generated while they are read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokens = Tokens()
        self._turns: Counter[str] = Counter()

    def path(self, name: str) -> Path:
        """Return the path of the file behind `/media/<name>`, `/hls/…` or `/dash/…`. Raises KeyError if there is no
        such file."""
        path = (self.directory / name).resolve()
        if not path.is_file() or not path.is_relative_to(self.directory.resolve()):
            raise KeyError(name)
        return path

    def find(self, name: str) -> Content | None:
        size = name.removeprefix("large-").removesuffix(".mp4")
        if name == f"large-{size}.mp4" and size.isdecimal():
            return large_content(int(size), self.path("prog.mp4"))
        if name.startswith("hostile/"):
            return hostile(name.removeprefix("hostile/"), self.directory)
        try:
            return FileContent(self.path(name))
        except (KeyError, ValueError):  # Path raises ValueError for names that no file can have
            return None

    def misbehave(self, spec: str, path: str) -> Misbehaviour:
        """Return the faults that `spec` means for this request for `path`, and count the request. Raises ValueError if
        `spec` is invalid."""
        faults = parse_faults(spec)
        address = f"{spec}/{path}"
        self._turns[address] += 1
        return Misbehaviour(faults, self._turns[address] - 1)

    async def send(self, exchange: Exchange, name: str, how: Misbehaviour = BEHAVED) -> None:
        """Respond with the file `name`, or with 404."""
        if name == "not-media.mp4":
            await exchange.reply(200, pages.html("Not media", "<p>Sorry.</p>"), "text/html; charset=utf-8")
            return
        content = self.find(name)
        if content is None:
            await exchange.refuse(404, "no such file")
            return
        await self.send_content(exchange, _rendered(content, name, exchange.request, how.faults), how)

    async def send_content(self, exchange: Exchange, content: Content, how: Misbehaviour = BEHAVED) -> None:
        if how.faults.changes and how.turn:
            content = ChangedContent(content, told=how.faults.changes == "told")
        await serve(exchange, content, how.now, self.tokens)


def _rendered(content: Content, name: str, request: Request, faults: Faults) -> Content:
    """Replace `{origin}` and `{host}` in playlists and manifests. If the URL of a playlist expires, add its token to
    the URLs in the playlist, so that these expire as well."""
    if not isinstance(content, FileContent) or not name.endswith((".m3u8", ".mpd")):
        return content
    text = content.path.read_text(encoding="utf-8")
    text = text.replace("{origin}", request.origin).replace("{host}", request.host)
    if faults.expire is not None and name.endswith(".m3u8"):
        text = with_token(text, request.query.get("token", ""))
    return HeldContent(text.encode(), content.type, content.modified)


def with_token(playlist: str, token: str) -> str:
    """Return the playlist with the token in the query of every URL in it."""

    def signed(address: str) -> str:
        return f"{address}{'&' if '?' in address else '?'}token={token}"

    def line(text: str) -> str:
        if text.startswith("#") or not text:
            return _URI_ATTRIBUTE.sub(lambda found: signed(found[0]), text)
        return signed(text)

    return "\n".join(map(line, playlist.split("\n")))
