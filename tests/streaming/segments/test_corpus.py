"""Comparison of the relay with an independent HLS parser (the package `m3u8` of PyPI). The playlists have the style of
the test suites of m3u8-parser, hls.js, shaka and streamlink, and there are three or more of each kind. The relay must
request the segments that `m3u8` lists. Where relay and parser disagree, `why` explains which list is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

import m3u8
import pytest

from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.packed_lines import PackedLines
from serverpy.streaming.segments.segment import Rules, Segment

BASE = "https://media.example/show/list.m3u8?token=1"
HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n"
END = "\n#EXT-X-ENDLIST\n"


@dataclass(frozen=True)
class Listed:
    """A request for a range of bytes of a file. `iv` is the initialization vector, or None if the bytes are not
    encrypted."""

    url: str
    first: int = 0
    end: int | None = None
    initial: bool = False
    key: str | None = None
    iv: bytes | None = None
    discontinuity: bool = False


@dataclass(frozen=True)
class Playlist:
    """A playlist. `why` explains why the relay's list of segments is right if it differs from the list of the parser
    `m3u8`. It is None if the lists are equal."""

    kind: str
    text: str
    why: str | None = None


def segments(*names: str, seconds: str = "6,") -> str:
    return "\n".join(f"#EXTINF:{seconds}\n{name}" for name in names)


def ranges(*spans: str, name: str = "all.ts") -> str:
    return "\n".join(f"#EXTINF:6,\n#EXT-X-BYTERANGE:{span}\n{name}" for span in spans)


KEY = '#EXT-X-KEY:METHOD=AES-128,URI="{}"{}\n'
MAP = '#EXT-X-MAP:URI="{}"\n'
DISCONTINUITY = "\n#EXT-X-DISCONTINUITY\n"

PLAYLISTS = [
    # Playlists with different forms of URIs
    Playlist("addresses", HEAD + segments("a.ts", "b/c.ts", "../d.ts", "./e.ts") + END),
    Playlist("addresses", HEAD + segments("/a.ts", "//cdn.example/b.ts", "http://cdn.example:8080/c.ts") + END),
    Playlist("addresses", HEAD + segments("a.ts?x=1&y=2", "b.ts?u=https://x.example/", "c;v=1.ts", "d%20e.ts") + END),
    Playlist("addresses", HEAD + segments("a b.ts", "ü.ts", "c(1).ts", "d,e.ts", "f'g.ts") + END),
    # Playlists with byte ranges
    Playlist("ranges", HEAD + ranges("1000@0", "2000@1000", "500@3000") + END),
    Playlist("ranges", HEAD + ranges("1000@188", "2000", "500") + END),
    Playlist("ranges", HEAD + ranges("100@50", name="a.ts") + "\n" + ranges("30@0", "70", name="b.ts") + END),
    Playlist("ranges", HEAD + MAP.replace("\n", ',BYTERANGE="720@0"\n').format("all.mp4") + ranges("90@720", "80")
             + END),
    Playlist("ranges", HEAD + "#EXT-X-BYTERANGE:50@7\n#EXTINF:6,\nall.ts\n" + segments("whole.ts") + END),
    # Playlists with initialization sections
    Playlist("maps", HEAD + MAP.format("init.mp4") + segments("1.m4s", "2.m4s") + END),
    Playlist("maps", HEAD + MAP.format("a.mp4") + segments("1.m4s") + DISCONTINUITY + MAP.format("b.mp4")
             + segments("2.m4s", "3.m4s") + END),
    Playlist("maps", HEAD + MAP.format("a.mp4") + segments("1.m4s") + DISCONTINUITY + MAP.format("a.mp4")
             + segments("2.m4s") + END),
    Playlist("maps", HEAD + MAP.format("a.mp4") + segments("1.m4s") + "\n" + MAP.format("ad.mp4") + segments("ad.m4s")
             + "\n" + MAP.format("a.mp4") + segments("2.m4s") + END),
    # Encrypted playlists
    Playlist("keys", HEAD + KEY.format("k", "") + segments("1.ts", "2.ts") + END),
    Playlist("keys", HEAD + "#EXT-X-MEDIA-SEQUENCE:2680\n" + KEY.format("https://keys.example/k?r=52", "")
             + segments("2680.ts", "2681.ts") + "\n" + KEY.format("https://keys.example/k?r=53", "")
             + segments("2682.ts") + END),
    Playlist("keys", HEAD + KEY.format("k", ",IV=0x9c7db8778570d05c3177c349fd9236aa") + segments("1.ts", "2.ts") + END),
    Playlist("keys", HEAD + KEY.format("k", "") + segments("1.ts") + "\n#EXT-X-KEY:METHOD=NONE\n" + segments("2.ts")
             + END),
    Playlist("keys", HEAD + MAP.format("init.mp4") + KEY.format("k", "") + segments("1.m4s", "2.m4s") + END),
    Playlist("keys", HEAD + KEY.format("k", ",IV=0x00000000000000000000000000000007") + MAP.format("init.mp4")
             + segments("1.m4s") + END,
             "m3u8 does not say that the section is encrypted; RFC 8216 §4.3.2.5: with the key before it"),
    # Live playlists
    Playlist("live", HEAD + "#EXT-X-MEDIA-SEQUENCE:8778\n" + segments("8778.ts", "8779.ts", "8780.ts")),
    Playlist("live", HEAD + "#EXT-X-PLAYLIST-TYPE:EVENT\n" + segments("0.ts", "1.ts")),
    Playlist("live", HEAD + "#EXT-X-DISCONTINUITY-SEQUENCE:4\n#EXT-X-MEDIA-SEQUENCE:7\n" + KEY.format("k", "")
             + segments("7.ts") + DISCONTINUITY + segments("8.ts")),
    Playlist("live", HEAD + "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.3\n"
             + segments("1.m4s") + '\n#EXT-X-PART:DURATION=0.3,URI="2.1.m4s"\n'
             + '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="2.2.m4s"\n'),
    # Playlists with discontinuities
    Playlist("discontinuities", HEAD + segments("1.ts") + DISCONTINUITY + segments("ad.ts") + DISCONTINUITY
             + segments("2.ts") + END),
    Playlist("discontinuities", HEAD + DISCONTINUITY.strip() + "\n" + segments("1.ts", "2.ts") + END),
    Playlist("discontinuities", HEAD + "#EXT-X-PROGRAM-DATE-TIME:2026-11-27T10:00:00Z\n" + segments("1.ts")
             + DISCONTINUITY + "#EXT-X-PROGRAM-DATE-TIME:2026-11-27T12:00:00.5+01:00\n" + segments("2.ts") + END),
    # Playlists with gaps
    Playlist("gaps", HEAD + segments("1.ts") + "\n#EXT-X-GAP\n" + segments("gone.ts") + "\n" + segments("3.ts") + END),
    Playlist("gaps", HEAD + "#EXT-X-GAP\n" + segments("gone.ts") + "\n" + KEY.format("k", "") + segments("2.ts") + END),
    Playlist("gaps", HEAD + "#EXTINF:6,\n#EXT-X-GAP\ngone.ts\n" + segments("2.ts", "3.ts") + END),
    # Playlists with errors that players accept
    Playlist("sloppy", "#EXTM3U\n" + segments("1.ts", "2.ts") + END),
    Playlist("sloppy", HEAD + segments("1.ts", seconds="") + "\n" + segments("2.ts", seconds="6") + END,
             "m3u8 refuses an empty duration; RFC 8216 §4.3.2.1 requires one, but no byte depends on it"),
    Playlist("sloppy", "\ufeff" + HEAD + segments("1.ts") + END),
    Playlist("sloppy", "\n  \n" + (HEAD + segments("1.ts", "2.ts")).replace("\n", "  \r\n") + "\r\n"),
    Playlist("sloppy", '#EXTM3U url-tvg="https://tv.example/guide.xml"\n' + segments("1.ts", seconds='6 id="x",A, b')
             + END, "m3u8 refuses attributes within EXTINF, which IPTV lists have"),
    Playlist("sloppy", HEAD + "1.ts\n#EXTINF:6,\n2.ts\n" + END,
             "m3u8 and hls.js leave out what has no EXTINF; VLC, FFmpeg and yt-dlp do not: no byte may be lost"),
    Playlist("sloppy", HEAD + "# by hand\n" + segments("1.ts", seconds='6,"A title", #1') + "\n#EXT-X-UNKNOWN:A=1\n"
             + segments("2.ts") + END),
    # Playlists with variables
    Playlist("variables", HEAD + '#EXT-X-DEFINE:NAME="d",VALUE="dir/x"\n' + segments("{$d}/1.ts", "{$d}/2.ts") + END,
             "m3u8 leaves variables unresolved"),
    Playlist("variables", HEAD + '#EXT-X-DEFINE:QUERYPARAM="token"\n' + MAP.format("i.mp4?t={$token}")
             + segments("1.m4s?t={$token}") + END, "m3u8 leaves variables unresolved"),
    Playlist("variables", HEAD + segments("{$d}/1.ts") + END),
    # Playlists with invalid sequence numbers, backslashes, white space and keys in several formats
    Playlist("numbers", HEAD + "#EXT-X-MEDIA-SEQUENCE:5.0\n" + segments("1.ts", "2.ts") + END,
             "m3u8 refuses a number with a fraction; hls.js and FFmpeg read the digits before it"),
    Playlist("numbers", HEAD + "#EXT-X-MEDIA-SEQUENCE:\n#EXT-X-DISCONTINUITY-SEQUENCE: \n" + segments("1.ts") + END,
             "m3u8 refuses an empty number; hls.js and FFmpeg read it as 0"),
    Playlist("numbers", HEAD + "#EXT-X-MEDIA-SEQUENCE:-1\n" + segments("1.ts", "2.ts") + END),
    Playlist("numbers", HEAD + "#EXT-X-MEDIA-SEQUENCE:7,\n" + KEY.format("k", "") + segments("7.ts", "8.ts") + END,
             "m3u8 refuses text behind a number; hls.js and FFmpeg read the digits before it"),
    Playlist("backslashes", HEAD + segments("a\\1.ts", "a\\2.ts") + END, "m3u8 does not resolve URIs as browsers do"),
    Playlist("backslashes", HEAD + MAP.format("..\\i.mp4") + segments("1.m4s") + END,
             "m3u8 does not resolve URIs as browsers do"),
    Playlist("backslashes", HEAD + segments("1.ts?a=\\b", "d%5C2.ts") + END),
    Playlist("formats", HEAD + KEY.format("k", "") + KEY.format("x", ',KEYFORMAT="com.example"') + segments("1.ts")
             + END,
             "m3u8 takes the last key; RFC 8216 §4.3.2.4: a client chooses a KEYFORMAT that it knows"),
    Playlist("formats", HEAD + KEY.format("x", ',KEYFORMAT="com.example"') + KEY.format("k", ',KEYFORMAT="identity"')
             + segments("1.ts", "2.ts") + END),
    Playlist("formats", HEAD + '#EXT-X-KEY:METHOD=AES-128 , URI = "k" ,IV=0x1\n' + segments("1.ts") + END,
             "m3u8 does not allow white space in attribute lists"),
    Playlist("gaps", HEAD + MAP.format("gone.mp4") + "#EXT-X-GAP\n" + segments("gone.m4s") + "\n" + MAP.format("i.mp4")
             + segments("2.m4s") + END),
]  # fmt: skip
IDS = [f"{each.kind}-{number}" for number, each in enumerate(PLAYLISTS)]


def ours(text: str) -> list[Listed]:
    """Return the requests that the relay would make for the playlist."""
    packed, playlist = PackedLines(), MediaPlaylist(BASE, Rules())
    lines = packed.write(text.encode()) + packed.finish()
    found = [segment for line in lines for segment in playlist.feed(line)]
    # yt-dlp counts EXT-X-DISCONTINUITY-SEQUENCE itself as a discontinuity.
    before, listed = int("#EXT-X-DISCONTINUITY-SEQUENCE" in text), []
    for segment in (each for each in found if not each.gap):
        listed.append(_listed(segment, has_jumped=not segment.initial and segment.discontinuity > before))
        before = before if segment.initial else segment.discontinuity
    return listed


def _listed(segment: Segment, *, has_jumped: bool) -> Listed:
    encryption = segment.encryption
    key, iv = (None, None) if encryption is None else (encryption.uri, encryption.iv)
    return Listed(segment.url, segment.first, segment.end, segment.initial, key, iv, has_jumped)


def theirs(text: str) -> list[Listed]:
    """Return the requests for the segments that the parser `m3u8` lists, in the same form as `ours`."""
    return list(_requests(m3u8.loads(text, uri=BASE)))


def _requests(playlist: m3u8.M3U8) -> Iterator[Listed]:
    section, position, has_jumped = None, 0, False
    # a segment without a URI consists only of partial segments (EXT-X-PART)
    for each in (segment for segment in playlist.segments if segment.uri):
        given = each.init_section
        if given is not None and (given.uri, given.byterange) != section and not each.gap_tag:
            section = given.uri, given.byterange
            yield Listed(urljoin(BASE, given.uri), *_span(given.byterange, 0), initial=True)
        first, end = _span(each.byterange, position)
        position = position if end is None else end
        has_jumped = has_jumped or each.discontinuity
        if not each.gap_tag:
            yield Listed(urljoin(BASE, each.uri), first, end, False, *_key(each), has_jumped)
            has_jumped = False


def _span(text: str | None, position: int) -> tuple[int, int | None]:
    if not text:
        return 0, None
    length, _, offset = text.partition("@")
    first = int(offset) if offset else position
    return first, first + int(length)


def _key(segment: m3u8.Segment) -> tuple[str | None, bytes | None]:
    key = segment.key
    if key is None or key.method == "NONE":
        return None, None
    iv = int(key.iv, 16) if key.iv else segment.media_sequence
    return urljoin(BASE, key.uri), iv.to_bytes(16, "big")


@pytest.mark.parametrize("playlist", PLAYLISTS, ids=IDS)
def test_the_relay_requests_the_segments_that_the_parser_m3u8_lists(playlist: Playlist) -> None:
    found = ours(playlist.text)
    assert found
    if playlist.why is None:
        assert found == theirs(playlist.text)
        return
    try:
        other = theirs(playlist.text)
    except (ValueError, AttributeError, KeyError):
        return
    assert found != other, f"they agree now: {playlist.why}"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("keys-18", [Listed("init.mp4", initial=True, key="k", iv=bytes(15) + b"\x07"),
                     Listed("1.m4s", key="k", iv=bytes(15) + b"\x07")]),
        ("sloppy-30", [Listed("1.ts"), Listed("2.ts")]),
        ("sloppy-33", [Listed("1.ts")]),
        ("sloppy-34", [Listed("1.ts"), Listed("2.ts")]),
        ("variables-36", [Listed("dir/x/1.ts"), Listed("dir/x/2.ts")]),
        ("variables-37", [Listed("i.mp4?t=1", initial=True), Listed("1.m4s?t=1")]),
        ("numbers-39", [Listed("1.ts"), Listed("2.ts")]),
        ("numbers-40", [Listed("1.ts")]),
        ("numbers-42", [Listed("7.ts", key="k", iv=bytes(15) + b"\x07"),
                        Listed("8.ts", key="k", iv=bytes(15) + b"\x08")]),
        ("backslashes-43", [Listed("a/1.ts"), Listed("a/2.ts")]),
        ("backslashes-44", [Listed("https://media.example/i.mp4", initial=True), Listed("1.m4s")]),
        ("formats-46", [Listed("1.ts", key="k", iv=bytes(16))]),
        ("formats-48", [Listed("1.ts", key="k", iv=bytes(15) + b"\x01")]),
    ],
)  # fmt: skip
def test_the_relay_is_right_about_each_playlist_for_which_its_segments_differ_from_those_of_the_parser_m3u8(
    number: str, expected: list[Listed]
) -> None:
    playlist = PLAYLISTS[IDS.index(number)]
    assert playlist.why
    relative = [
        Listed(
            each.url.removeprefix("https://media.example/show/"),
            each.first,
            each.end,
            each.initial,
            None if each.key is None else each.key.removeprefix("https://media.example/show/"),
            each.iv,
            each.discontinuity,
        )
        for each in ours(playlist.text)
    ]
    assert relative == expected


def test_the_corpus_has_at_least_three_playlists_of_each_kind() -> None:
    kinds = [each.kind for each in PLAYLISTS]
    assert all(kinds.count(kind) >= 3 for kind in kinds)
    assert len(PLAYLISTS) >= 30
