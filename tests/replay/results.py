"""The expected responses to requests without `format` for the replayed pages, and the rows of the table in
docs/reliability.md."""

from __future__ import annotations

from serverpy.sample.hls import parts_of
from tests.media.mp4.films import packets
from tests.replay.site import read
from tests.replay.sites import PAGES
from tests.replay.stock import Choice
from tests.wire import Answer

SEVERAL = ("x-two", "instagram-carousel", "twitch-collection", "podcast")
"""Playlists. `/info` states no default for such a page."""
LOW = ("ted", "instagram-carousel")
"""Pages for which a request without `format` gets the film of low quality. The carousel has no other. The video of high
quality of `ted` is MPEG-TS with audio apart, which this server cannot merge."""
SIGNED = ("vimeo", "dailymotion", "twitch-clip", "tiktok", "instagram", "bilibili")
"""Pages of one item whose media have signed addresses."""
SINGLE = tuple(name for name in PAGES if name not in SEVERAL)


def is_whole_film(name: str, answer: Answer) -> bool:
    """Return whether the body of `answer` is complete and has all packets of the film that the page `name` shows."""
    if answer.headers["content-type"] == "audio/mpeg":
        return answer.complete and answer.body == read("audio.mp3")
    if answer.headers["content-type"] == "video/mp2t":
        return answer.complete and answer.body == b"".join(read(f"hls/{part}") for part in parts_of("ts", "high"))
    film = read("prog-180.mp4" if name in LOW else "prog.mp4")
    return answer.complete and all(_digests(answer.body, kind) == _digests(film, kind) for kind in ("video", "audio"))


def _digests(film: bytes, kind: str) -> list[str]:
    return [packet.digest for packet in packets(film, kind)]


def row(name: str, default: str, stock: Choice, *, has_ranges: bool) -> str:
    """Return the row of the page `name` in docs/reliability.md. `default` is the default that `/info` states."""
    ranges = "yes" if has_ranges else "no"
    return f"| {name} | `{default}` | {ranges} | `{'+'.join(stock.ids)}` |"
