"""Hostile media: playlists, manifests and MP4s that claim too much, never end, or contain invalid URLs.

The site generates large files while a client reads them, so it holds few bytes in memory. For each hostile file, a
client should report a clear error, in bounded memory and time. The name of each file in `HOSTILE` states its fault.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from serverpy.sample.boxes import boxes, within
from serverpy.sample.content import PIECE_BYTES, Content, HeldContent, type_of
from serverpy.sample.cut import aes_128
from serverpy.sample.hls import EXTINF, playlist

SEGMENT = "../hls/ts/low-{}.ts"
HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n"
MILLION = 1_000_000
ENDLESS_BYTES = 1 << 40
LONG_LINE_BYTES = 64 << 20
BOMB_SEGMENTS = 200_000
DEPTH = 1000
BACKTRACKING_TAGS = 20_000
"""Number of unfinished tags in a page on which yt-dlp's regular expressions need minutes, during which they hold
Python's interpreter lock."""
KEY = b"0123456789abcdef"
IV = bytes(16)


@dataclass(frozen=True, slots=True)
class RepeatedContent:
    """Content of `size` bytes: `head`, then `unit` repeated as often as needed, then `tail`."""

    head: bytes
    unit: bytes
    tail: bytes
    size: int
    type: str
    modified: float = 0.0

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        while start < stop:
            piece = self._at(start, min(PIECE_BYTES, stop - start))
            start += len(piece)
            yield piece

    def _at(self, start: int, length: int) -> bytes:
        """Return at least one and at most `length` bytes from offset `start` on."""
        end = self.size - len(self.tail)
        if start < len(self.head):
            return self.head[start : start + length]
        if start >= end:
            return self.tail[start - end : start - end + length]
        place = (start - len(self.head)) % len(self.unit)
        length = min(length, end - start)
        times = (place + length) // len(self.unit) + 1
        return (self.unit * times)[place : place + length]


def hostile(name: str, media: Path) -> Content | None:
    """Return the content of `/hostile/<name>`. Returns None if there is no such file."""
    stem, _, suffix = name.rpartition(".")
    if name in FILES:
        return _held(name, FILES[name](media))
    if (stem, suffix) in _ENDLESS:
        return _ENDLESS[stem, suffix]
    if suffix == "m3u8" and stem in PLAYLISTS:
        return _held(name, ("\n".join(PLAYLISTS[stem]) + "\n").encode())
    if suffix == "mp4" and stem in FILMS:
        return _held(name, FILMS[stem]((media / "video-180.mp4").read_bytes()))
    if suffix == "mp4" and stem in INDEXED_FILMS:
        return _held(name, INDEXED_FILMS[stem]((media / "video-180-sidx.mp4").read_bytes()))
    return None


def _held(name: str, data: bytes) -> HeldContent:
    return HeldContent(data, type_of(name), 0.0)


def _segments(*addresses: str) -> list[str]:
    return [line for address in addresses for line in (EXTINF, address)]


def _film(*tags: str, before: int = 1) -> list[str]:
    """Return a media playlist of five segments, with `tags` before one of the segments."""
    lines = []
    for number in range(5):
        lines += [*(tags if number == before else ()), *_segments(SEGMENT.format(number))]
    return playlist(lines)


def _under(key: str, iv: str = IV.hex(), segment: str = "secret.ts") -> list[str]:
    return playlist([f'#EXT-X-KEY:METHOD=AES-128,URI="{key}",IV=0x{iv}', *_segments(segment)])


PLAYLISTS: dict[str, list[str]] = {
    "zero-segment": playlist(_segments(SEGMENT.format(0), "zero.ts", SEGMENT.format(2))),
    "all-zero": playlist(_segments("zero.ts", "zero.ts")),
    "html-segment": playlist(_segments(SEGMENT.format(0), "../media/not-media.mp4")),
    "missing-segment": playlist(_segments(SEGMENT.format(0), "nothing.ts", SEGMENT.format(2))),
    "no-segments": playlist([]),
    "missing-map": playlist(['#EXT-X-MAP:URI="nothing.mp4"', *_segments("../hls/fmp4/low-0.m4s")]),
    "map-without-uri": playlist(["#EXT-X-MAP:BYTERANGE=100@0", *_segments("../hls/fmp4/low-0.m4s")]),
    "short-key": _under("short.key"),
    "long-key": _under("long.key"),
    "missing-key": _under("nothing.key"),
    "large-key": _under("/media/large-64.mp4"),
    "file-key": _under("file:///etc/passwd"),
    "bad-iv": _under("right.key", "not-hexadecimal"),
    "long-iv": _under("right.key", "00" * 17),
    "odd-segment": _under("right.key", segment="odd.ts"),
    "bad-padding": _under("right.key", segment="padding.ts"),
    "sample-aes": playlist(['#EXT-X-KEY:METHOD=SAMPLE-AES,URI="right.key"', *_segments(SEGMENT.format(0))]),
    "fairplay": playlist(
        [
            '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://key",KEYFORMAT="com.apple.streamingkeydelivery"',
            *_segments(SEGMENT.format(0)),
        ]
    ),
    "negative-range": _film("#EXT-X-BYTERANGE:-100@-5"),
    "huge-range": _film(f"#EXT-X-BYTERANGE:{1 << 63}@{1 << 62}"),
    "outer-range": _film("#EXT-X-BYTERANGE:1000@100000000"),
    "huge-sequence": ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{'9' * 5000}", *_film()[5:]],
    "bad-duration": ["#EXTM3U", "#EXT-X-TARGETDURATION:nan", "#EXTINF:1e999,", SEGMENT.format(0), "#EXT-X-ENDLIST"],
    "private-segment": playlist(_segments(SEGMENT.format(0), "http://169.254.169.254/latest/meta-data")),
    "dead-names": playlist(_segments(*(f"http://dead-{number}.example/{number}.ts" for number in range(20)))),
    "loop-segment": playlist(_segments("loop-segment.m3u8")),
    "loop-redirect": playlist(_segments("/page/loop")),
    "loop-master": ["#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=320x180", "loop-master.m3u8"],
    "variant-is-html": ["#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=320x180", "/media/not-media.mp4"],
}
"""The lines of each hostile playlist, by name."""


def _odd_segment(media: Path) -> bytes:
    return _secret_segment(media)[:-5]


def _bad_padding(media: Path) -> bytes:
    # CBC combines the last block with the block before it. A wrong block there turns the padding into noise.
    secret = _secret_segment(media)
    return secret[:-32] + bytes(16) + secret[-16:]


def _secret_segment(media: Path) -> bytes:
    return aes_128((media / "hls/ts/low-0.ts").read_bytes(), KEY, IV)


def _laughs(_media: Path) -> bytes:
    """Return nested XML entities ("billion laughs"), which would expand to six gigabytes."""
    entities = ['<!ENTITY a0 "hahaha">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))]
    return f'<?xml version="1.0"?><!DOCTYPE MPD [{"".join(entities)}]><MPD>&a9;</MPD>'.encode()


def _bomb(_media: Path) -> bytes:
    """Return a manifest with a SegmentTimeline whose only S element stands for BOMB_SEGMENTS segments."""
    return (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="v" codecs="avc1.42c014" bandwidth="1000">'
        '<SegmentTemplate initialization="/dash/video-180-init.mp4" media="nothing-$Time$.m4s"><SegmentTimeline>'
        f'<S t="0" d="1" r="{BOMB_SEGMENTS - 1}"/></SegmentTimeline></SegmentTemplate></Representation>'
        "</AdaptationSet></Period></MPD>"
    ).encode()


FILES: dict[str, Callable[[Path], bytes]] = {
    "zero.ts": lambda _media: b"",
    "short.key": lambda _media: KEY[:-1],
    "long.key": lambda _media: KEY + b"!",
    "right.key": lambda _media: KEY,
    "secret.ts": _secret_segment,
    "odd.ts": _odd_segment,
    "padding.ts": _bad_padding,
    "backtrack.html": lambda _media: b"<!DOCTYPE html><title>" + b"<meta " * BACKTRACKING_TAGS,
    "empty.m3u8": lambda _media: b"",
    "html.m3u8": lambda _media: b"<!DOCTYPE html><title>No playlist</title>",
    "binary.m3u8": lambda _media: b"#EXTM3U\n" + bytes(range(256)) * 64,
    "laughs.mpd": _laughs,
    "bomb.mpd": _bomb,
    "broken.mpd": lambda _media: b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>',
}

_UNIT = f"{EXTINF}\n{SEGMENT.format(0)}\n".encode()
_TAIL = b"#EXT-X-ENDLIST\n"
_M3U8 = type_of("x.m3u8")
_ENDLESS: dict[tuple[str, str], RepeatedContent] = {
    ("million", "m3u8"): RepeatedContent(
        HEAD.encode(), _UNIT, _TAIL, len(HEAD) + len(_UNIT) * MILLION + len(_TAIL), _M3U8
    ),
    ("endless", "m3u8"): RepeatedContent(HEAD.encode(), _UNIT, b"", ENDLESS_BYTES, _M3U8),
    ("long-line", "m3u8"): RepeatedContent(HEAD.encode(), b"#", b"\n" + _UNIT + _TAIL, LONG_LINE_BYTES, _M3U8),
    ("endless", "mp4"): RepeatedContent(
        struct.pack(">I4sQ", 1, b"moov", ENDLESS_BYTES), bytes(4096), b"", ENDLESS_BYTES, "video/mp4"
    ),
}


def _patched(kind: bytes, place: int, data: bytes) -> Callable[[bytes], bytes]:
    """Return a function that overwrites bytes in the first box of type `kind`. The bytes begin at offset `place`,
    counted from the box's size field."""

    def patch(film: bytes) -> bytes:
        box = next(box for box in within(film) if box.kind == kind)
        start = box.start - 8 + place
        return film[:start] + data + film[start + len(data) :]

    return patch


def _without_moov(film: bytes) -> bytes:
    return b"".join(film[box.start - 8 : box.stop] for box in boxes(film) if box.kind != b"moov")


def _cut_in_moov(film: bytes) -> bytes:
    (moov,) = (box for box in boxes(film) if box.kind == b"moov")
    return film[: (moov.start + moov.stop) // 2]


def _deep(film: bytes) -> bytes:
    (head,) = (film[box.start - 8 : box.stop] for box in boxes(film) if box.kind == b"ftyp")
    nested = b""
    for _ in range(DEPTH):
        nested = struct.pack(">I4s", len(nested) + 8, b"moov") + nested
    return head + nested


_MAX_UINT32 = b"\xff" * 4

FILMS: dict[str, Callable[[bytes], bytes]] = {
    "size-zero": _patched(b"moov", 0, bytes(4)),
    "size-small": _patched(b"trak", 0, struct.pack(">I", 4)),
    "size-huge": _patched(b"trak", 0, _MAX_UINT32),
    "size-wide": _patched(b"moov", 0, struct.pack(">I4sQ", 1, b"moov", (1 << 64) - 1)),
    "no-moov": _without_moov,
    "cut-moov": _cut_in_moov,
    "deep": _deep,
    "many-sizes": _patched(b"stsz", 16, _MAX_UINT32),
    "one-size": _patched(b"stsz", 12, struct.pack(">II", 1, (1 << 32) - 1)),
    "many-chunks": _patched(b"stco", 12, _MAX_UINT32),
    "far-chunks": _patched(b"stco", 16, _MAX_UINT32),
    "many-times": _patched(b"stts", 12, _MAX_UINT32),
    "odd-chunks": _patched(b"stsc", 16, struct.pack(">II", 7, (1 << 32) - 1)),
    "no-timescale": _patched(b"mdhd", 20, bytes(4)),
    "encrypted": _patched(b"stsd", 20, b"encv"),
}
"""Maps the name of each hostile MP4 to the function that makes that MP4 from an MP4 that is not fragmented."""
INDEXED_FILMS: dict[str, Callable[[bytes], bytes]] = {
    "sidx-none": _patched(b"sidx", 38, bytes(2)),
    "sidx-many": _patched(b"sidx", 38, b"\xff\xff"),
    "sidx-empty": _patched(b"sidx", 40, bytes(4)),
    "sidx-nested": _patched(b"sidx", 40, b"\x80"),
    "sidx-far": _patched(b"sidx", 40, b"\x7f\xff\xff\xff"),
    "trun-many": _patched(b"trun", 12, _MAX_UINT32),
}
"""Maps the name of each hostile MP4 to the function that makes that MP4 from a fragmented MP4 whose fragments begin
right after its `sidx`."""

HOSTILE = tuple(
    sorted(
        [f"{name}.m3u8" for name in PLAYLISTS]
        + [name for name in FILES if name.endswith((".m3u8", ".mpd"))]
        + [f"{stem}.{suffix}" for stem, suffix in _ENDLESS]
        + [f"{name}.mp4" for name in (*FILMS, *INDEXED_FILMS)]
    )
)
"""The name of every hostile file for which the site has a page with a player."""
