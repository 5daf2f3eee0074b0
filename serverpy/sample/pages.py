"""The HTML pages of the sample site: small examples of the pages on the web that yt-dlp's generic extractor handles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

from serverpy.sample.content import type_of

HEAVY_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses that pages refer to: the origin of the site as the client named it in the request, and a port of
    the same host that refuses connections."""

    origin: str
    closed_port: int


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    body: Callable[[Place], str]
    """Function that returns the HTML content of a page's <body>."""


def html(title: str, body: str, head: str = "") -> bytes:
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title>{head}</head>
<body><h1>{escape(title)}</h1>
{body}
</body>
</html>
""".encode()


def player(source: str, type: str, tag: str = "video") -> str:
    return f'<{tag} controls><source src="{escape(source)}" type="{escape(type)}"></{tag}>'


def _media(name: str, tag: str = "video") -> Callable[[Place], str]:
    return lambda _place: player(f"/media/{name}", type_of(name), tag)


def _manifest(path: str) -> Callable[[Place], str]:
    return lambda _place: player(path, type_of(path))


def _json_ld(place: Place) -> str:
    video = {
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "name": "Described by JSON-LD",
        "description": "A ramp moves over noise.",
        "uploadDate": "2026-11-01T12:00:00Z",
        "duration": "PT10S",
        "thumbnailUrl": f"{place.origin}/media/photo-1.jpg",
        "contentUrl": f"{place.origin}/media/prog.mp4",
    }
    return f'<script type="application/ld+json">{json.dumps(video)}</script>'


def _two(_place: Place) -> str:
    return player("/media/prog.mp4", "video/mp4") + player("/media/vp9.webm", "video/webm")


def _heavy(_place: Place) -> str:
    line = '<p class="text"><a href="/page/none">A line of text</a> with <em>markup</em>, as long pages have it.</p>\n'
    filling = line * (HEAVY_BYTES // len(line) // 2)
    return filling + player("/media/prog.mp4", "video/mp4") + filling


def _dead(place: Place) -> str:
    return player(f"http://127.0.0.1:{place.closed_port}/media/prog.mp4", "video/mp4")


HLS_SHAPES = {
    "byterange": "HLS in one file of transport stream",
    "byterange-fmp4": "HLS in one file of fragmented MP4",
    "keys": "HLS under keys that take turns",
    "aes-fmp4": "HLS of fragmented MP4 under AES-128",
    "discontinuity": "HLS whose encoding changes",
    "discontinuity-fmp4": "HLS whose init map changes",
    "gap": "HLS with a gap",
    "anvato": "HLS with Anvato's advertisements",
    "uplynk": "HLS with Uplynk's advertisements",
    "group": "HLS with its sound apart and no CODECS",
    "group-muxed": "HLS with an audio group it does not need",
    "addresses": "HLS with addresses of every form",
}

HLS_APART = {
    "apart": "HLS of fragmented MP4 with its sound apart",
    "apart-byterange": "HLS with its sound apart, in a file each",
    "apart-aes": "HLS with its sound apart, under AES-128",
    "apart-restart": "HLS with its sound apart, whose times begin anew",
    "apart-long": "HLS with its sound apart, in longer segments",
}

PAGES: dict[str, Page] = {
    "prog": Page("A progressive film", _media("prog.mp4")),
    "moov-last": Page("The index comes last", _media("moov-last.mp4")),
    "webm": Page("VP9 and Opus", _media("vp9.webm")),
    "mp3": Page("A tone (MP3)", _media("audio.mp3", "audio")),
    "m4a": Page("A tone (M4A)", _media("audio.m4a", "audio")),
    "jsonld": Page("Described by JSON-LD", _json_ld),
    "hls-ts": Page("HLS of transport streams", _manifest("/hls/ts/master.m3u8")),
    "hls-fmp4": Page("HLS of fragmented MP4", _manifest("/hls/fmp4/master.m3u8")),
    "hls-aes": Page("HLS under AES-128", _manifest("/hls/aes/master.m3u8")),
    "hls-audio": Page("HLS with its sound apart", _manifest("/hls/audio/master.m3u8")),
    **{
        f"hls-{kind}": Page(title, _manifest(f"/hls/{kind}/master.m3u8"))
        for kind, title in (HLS_SHAPES | HLS_APART).items()
    },
    "dash": Page("DASH by template", _manifest("/dash/manifest.mpd")),
    "dash-list": Page("DASH by list", _manifest("/dash/list.mpd")),
    "dash-on-demand": Page("DASH of one file a track", _manifest("/dash/on-demand.mpd")),
    "dash-time": Page("DASH by time", _manifest("/dash/time.mpd")),
    "dash-periods": Page("DASH of two periods", _manifest("/dash/periods.mpd")),
    "dash-ranges": Page("DASH by list, of ranges", _manifest("/dash/ranges.mpd")),
    "dash-restart": Page("DASH of two periods, whose times begin anew", _manifest("/dash/restart.mpd")),
    "dash-bases": Page("DASH with bases on every level", _manifest("/dash/bases.mpd")),
    "live": Page("A broadcast", _manifest("/live/on-air/master.m3u8")),
    "two": Page("Two films on one page", _two),
    "unicode": Page('映画「サンプル」🎬 "quoted" / it\'s größer & <more>', _media("prog.mp4")),
    "none": Page("Nothing to see here", lambda _place: "<p>Only text.</p>"),
    "heavy": Page("A heavy page", _heavy),
    "slow": Page("A slow page", _media("prog.mp4")),
    "dead": Page("The media server is down", _dead),
    "html-media": Page("The media is HTML", _media("not-media.mp4")),
    "empty-media": Page("The media is empty", _media("empty.mp4")),
}


def render(page: Page, place: Place) -> bytes:
    return html(page.title, page.body(place))


def index(films: Iterable[str]) -> bytes:
    """Return the front page: a link to each page, to each video of SampleTube, and to the broadcast of SampleTube."""
    listed = _list((f"/page/{name}", page.title) for name, page in PAGES.items())
    tube = _list((f"/tube/watch/{film}", film) for film in films)
    live = _list([("/tube/live/on-air", "on air")])
    return html("ServerPY's sample site", f"{listed}<h2>SampleTube</h2>{tube}<h2>Live</h2>{live}")


def _list(links: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<li><a href="{escape(link)}">{escape(title)}</a></li>' for link, title in links)
    return f"<ul>{items}</ul>"
