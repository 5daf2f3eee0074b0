"""Helper for a live broadcast on a `Shelf`, the tests' media server. The broadcast advances with each request for its
playlist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serverpy.extraction.values import Track
from tests.streaming.segments.relaying import hls
from tests.streaming.segments.shelf import Shelf


@dataclass
class Show:
    """Live broadcast of `total` segments. Its playlist lists `window` segments, and advances by `pace` segments at each
    request.

    Its target duration is 0, so that clients wait as briefly as possible between requests. `number` returns the media
    sequence number that the playlist states for its first segment. If `ends_empty` is true, the playlist ends without
    segments.
    """

    shelf: Shelf
    window: int = 4
    total: int = 12
    pace: int = 1
    ends: bool = True
    before: str = ""
    number: Callable[[int], int] = int
    ends_empty: bool = False
    looks: int = field(default=0)

    def __post_init__(self) -> None:
        self.shelf.files["/live.m3u8"] = self.playlist
        for number in range(self.total):
            self.shelf.files[f"/{number}.ts"] = piece(number)

    def playlist(self) -> bytes:
        made = min(self.window + self.looks * self.pace, self.total)
        self.looks += 1
        if self.ends_empty and made < self.window + (self.looks - 1) * self.pace:
            return b"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-ENDLIST\n"
        first = max(0, made - self.window)
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:0", f"#EXT-X-MEDIA-SEQUENCE:{self.number(first)}", self.before]
        lines += [f"#EXTINF:0.1,\n{number}.ts" for number in range(first, made)]
        lines += ["#EXT-X-ENDLIST"] if made == self.total and self.ends and not self.ends_empty else []
        return "\n".join(lines).encode()

    def track(self, query: str = "") -> Track:
        return hls(self.shelf, path="/live.m3u8", query=query, is_live=True)


def piece(number: int) -> bytes:
    return b"\x47" + number.to_bytes(2, "big") * 1000


def pieces(*numbers: int) -> bytes:
    return b"".join(map(piece, numbers))
