"""Helpers that parse DASH manifests of tests, and write lists of segments as short texts."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from serverpy.extraction.values import Fragment
from serverpy.ytdlp.mpd.joining import Joined, join
from serverpy.ytdlp.mpd.representations import read

BASE = "https://m.example/d/"
URL = BASE + "m.mpd"
NOW = 1_800_000_000.0
"""The time 2027-01-15T08:00:00Z, in seconds since 1970."""
VIDEO = 'mimeType="video/mp4" codecs="avc1.4d401e"'
AUDIO = 'mimeType="audio/mp4" codecs="mp4a.40.2"'


def mpd(content: str, attributes: str = 'mediaPresentationDuration="PT6S"', *, kind: str = "static") -> str:
    return (
        '<?xml version="1.0"?>'
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink" type="{kind}"'
        f' minBufferTime="PT2S" {attributes}>{content}</MPD>'
    )


def video(content: str, attributes: str = "", *, id: str = "v", bandwidth: int = 1000) -> str:
    """Return an adaptation set (XML) with one video representation."""
    return (
        f"<AdaptationSet {VIDEO} {attributes}>"
        f'<Representation id="{id}" bandwidth="{bandwidth}" width="160" height="90">{content}</Representation>'
        "</AdaptationSet>"
    )


def found(text: str, *, url: str = URL) -> list[Joined]:
    """Return the formats that ServerPY's parser finds in a manifest."""
    return join(read(ElementTree.fromstring(text), url, NOW))


def listed(text: str, *, url: str = URL) -> dict[str, str]:
    """Return the segments of each format, by the id of the format. If a format has no segments, the reason is in their
    place."""
    return {
        each.seed.id or "": f"refused: {each.refusal}" if each.listing is None else short(each.listing)
        for each in found(text, url=url)
    }


def short(fragments: Iterable[Fragment]) -> str:
    """Return a text that lists the URL of each fragment relative to `BASE`, with the byte range of the fragment. A `!`
    precedes the URL of an initialization segment."""
    return " ".join(
        ("!" if each.initial else "")
        + each.url.removeprefix(BASE)
        + (f"@{each.first}-{each.end}" if each.end is not None else "")
        for each in fragments
    )
