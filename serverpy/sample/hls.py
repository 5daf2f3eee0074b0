"""The less common forms (shapes) of HLS, assembled from the segments made by `cut.py` without encoding again.

Each shape is a folder with a master playlist of two variants, `high` and `low`, which often differ in the tested
detail. `parts_of` lists the files whose bytes a client should get from each variant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from serverpy.sample.cut import AES_FIRST_SEQUENCE, aes_128, write_lines
from serverpy.sample.encode import SECONDS, SEGMENT_SECONDS

SEGMENTS = SECONDS // SEGMENT_SECONDS
EXTINF = f"#EXTINF:{SEGMENT_SECONDS:.6f},"
DISCONTINUITY = "#EXT-X-DISCONTINUITY"
GONE = 2
"""The 0-based number of the segment that is missing in the shape `gap`."""
KEYS = {"high": "aa-ba", "low": "aabba"}
"""The keys of the segments in the shape `keys`, for each variant: one letter for each segment; `-` means no
encryption."""
QUERY = "token=a%20b&sig=x%2Fy%2Bz%3D"
VARIANTS = ("high", "low")


def make_shapes(hls: Path) -> None:
    """Make the folder of each shape inside `hls`, which must already have the folders `ts`, `fmp4` and `audio`."""
    for name, make in SHAPES.items():
        folder = hls / name
        folder.mkdir()
        make(folder)


def playlist(lines: Iterable[str], sequence: int = 0) -> list[str]:
    """Return the lines of a complete VOD media playlist that contains `lines`."""
    return [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{SEGMENT_SECONDS}",
        f"#EXT-X-MEDIA-SEQUENCE:{sequence}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        *lines,
        "#EXT-X-ENDLIST",
    ]


def _segments(*addresses: str) -> list[str]:
    return [line for address in addresses for line in (EXTINF, address)]


def _ts(variant: str, *numbers: int) -> list[str]:
    return _segments(*(f"../ts/{variant}-{number}.ts" for number in numbers))


def _like(folder: Path, kind: str) -> None:
    """Copy the master playlist of the folder `kind`, whose variants have the same names."""
    write_lines(folder / "master.m3u8", (folder.parent / kind / "master.m3u8").read_text().splitlines())


def _byte_ranges(folder: Path) -> None:
    """Write the shape in which all segments are byte ranges of one file. The high variant states the offset of each
    segment; in the low variant each segment begins where the previous one ends (RFC 8216 §4.3.2.2)."""
    _like(folder, "ts")
    for variant in VARIANTS:
        parts = [(folder.parent / "ts" / f"{variant}-{n}.ts").read_bytes() for n in range(SEGMENTS)]
        lines = byte_ranges(folder / f"{variant}.ts", parts, every_offset=variant == "high")
        write_lines(folder / f"{variant}.m3u8", playlist(lines))


def _byte_ranges_fmp4(folder: Path) -> None:
    """Write the playlist whose fragmented MP4 segments, and the initialization section, are byte ranges of one file."""
    _like(folder, "fmp4")
    for variant in VARIANTS:
        source = folder.parent / "fmp4"
        head = (source / f"{variant}-init.mp4").read_bytes()
        parts = [(source / f"{variant}-{n}.m4s").read_bytes() for n in range(SEGMENTS)]
        lines = byte_ranges(folder / f"{variant}.mp4", parts, head=head, every_offset=variant == "high")
        tag = f'#EXT-X-MAP:URI="{variant}.mp4",BYTERANGE="{len(head)}@0"'
        write_lines(folder / f"{variant}.m3u8", playlist([tag, *lines]))


def byte_ranges(
    target: Path,
    parts: list[bytes],
    durations: Sequence[str] = (EXTINF,) * SEGMENTS,
    head: bytes = b"",
    *,
    every_offset: bool = True,
) -> list[str]:
    """Write all segments in `parts` into one file, after `head`. Returns the playlist lines that list them, with the
    EXTINF tags in `durations`."""
    target.write_bytes(head + b"".join(parts))
    offset = len(head)
    lines = []
    for number, (part, duration) in enumerate(zip(parts, durations, strict=True)):
        place = f"@{offset}" if every_offset or not number else ""
        lines += [duration, f"#EXT-X-BYTERANGE:{len(part)}{place}", target.name]
        offset += len(part)
    return lines


def _keys(folder: Path) -> None:
    """Write the shape that alternates between two keys. The high variant states its IVs and has one unencrypted
    segment; in the low variant the IV is the media sequence number."""
    _like(folder, "ts")
    for letter in "ab":
        (folder / f"{letter}.key").write_bytes(_digest(f"key {letter}"))
    for variant, letters in KEYS.items():
        lines: list[str] = []
        before = ""
        for number, letter in enumerate(letters):
            iv = _digest(f"iv {number}") if variant == "high" else None
            if iv or letter != before:
                lines.append(_key_tag(letter, iv))
            lines += _segments(f"{variant}-{number}.ts")
            plain = (folder.parent / "ts" / f"{variant}-{number}.ts").read_bytes()
            vector = iv or (AES_FIRST_SEQUENCE + number).to_bytes(16, "big")
            secret = plain if letter == "-" else aes_128(plain, _digest(f"key {letter}"), vector)
            (folder / f"{variant}-{number}.ts").write_bytes(secret)
            before = letter
        write_lines(folder / f"{variant}.m3u8", playlist(lines, AES_FIRST_SEQUENCE))


def _key_tag(letter: str, iv: bytes | None) -> str:
    if letter == "-":
        return "#EXT-X-KEY:METHOD=NONE"
    return f'#EXT-X-KEY:METHOD=AES-128,URI="{letter}.key"' + (f",IV=0x{iv.hex()}" if iv else "")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _aes_fmp4(folder: Path) -> None:
    """Write the shape that encrypts fragmented MP4 with AES-128 and explicit IVs. In the high variant the
    initialization section is encrypted too, because the key tag comes before it (RFC 8216 §4.3.2.5); in the low variant
    it is not encrypted."""
    _like(folder, "fmp4")
    key = _digest("key fmp4")
    (folder / "fmp4.key").write_bytes(key)
    for variant in VARIANTS:
        tag = f'#EXT-X-KEY:METHOD=AES-128,URI="fmp4.key",IV=0x{_digest(variant).hex()}'
        head = f'#EXT-X-MAP:URI="{variant}-init.mp4"'
        for name in (f"{variant}-init.mp4", *(f"{variant}-{n}.m4s" for n in range(SEGMENTS))):
            plain = (folder.parent / "fmp4" / name).read_bytes()
            in_the_clear = variant == "low" and name.endswith("-init.mp4")
            (folder / name).write_bytes(plain if in_the_clear else aes_128(plain, key, _digest(variant)))
        lines = [tag, head] if variant == "high" else [head, tag]
        write_lines(
            folder / f"{variant}.m3u8",
            playlist([*lines, *_segments(*(f"{variant}-{n}.m4s" for n in range(SEGMENTS)))]),
        )


def _discontinuity(folder: Path) -> None:
    """Write the shape whose encoding changes once in the high variant and twice in the low variant, each time after
    EXT-X-DISCONTINUITY. yt-dlp's `format_index` is the number of these tags before a segment."""
    _like(folder, "ts")
    once = [*_ts("high", 0, 1, 2), DISCONTINUITY, *_ts("low", 3, 4)]
    twice = [*_ts("low", 0, 1), DISCONTINUITY, *_ts("high", 2), DISCONTINUITY, *_ts("low", 3, 4)]
    write_lines(folder / "high.m3u8", playlist(once))
    write_lines(folder / "low.m3u8", playlist(twice))


def _discontinuity_fmp4(folder: Path) -> None:
    """Write the shape whose encoding and EXT-X-MAP change. yt-dlp refuses a second EXT-X-MAP unless it downloads the
    discontinuities one by one (`--hls-split-discontinuity`)."""
    _like(folder, "fmp4")
    for variant, other in (VARIANTS, VARIANTS[::-1]):
        lines: list[str] = []
        for name, numbers in ((variant, (0, 1, 2)), (other, (3, 4))):
            lines += [DISCONTINUITY] if lines else []
            lines.append(f'#EXT-X-MAP:URI="../fmp4/{name}-init.mp4"')
            lines += _segments(*(f"../fmp4/{name}-{number}.m4s" for number in numbers))
        write_lines(folder / f"{variant}.m3u8", playlist(lines))


def _gap(folder: Path) -> None:
    """Write the shape that marks a segment as missing (EXT-X-GAP): the site responds with 404 to its URL. In the low
    variant the last segment is missing too."""
    _like(folder, "ts")
    for variant, missing in (("high", {GONE}), ("low", {GONE, SEGMENTS - 1})):
        lines = []
        for number in range(SEGMENTS):
            lines += ["#EXT-X-GAP", *_segments(f"gone-{number}.ts")] if number in missing else _ts(variant, number)
        write_lines(folder / f"{variant}.m3u8", playlist(lines))


def _ads(start: str, end: str) -> Callable[[Path], None]:
    """Return a function that writes a shape with advertisements (segments of the other variant) before the main content
    and in the middle of it. The advertisements are between tags of an advertising service that yt-dlp recognises, so
    yt-dlp drops the advertisements."""

    def make(folder: Path) -> None:
        _like(folder, "ts")
        for variant, other in (VARIANTS, VARIANTS[::-1]):
            lines = [start, *_ts(other, 4), DISCONTINUITY, end, *_ts(variant, 0, 1), DISCONTINUITY]
            lines += [start, *_ts(other, 3, 2), DISCONTINUITY, end, *_ts(variant, 2, 3, 4)]
            write_lines(folder / f"{variant}.m3u8", playlist(lines))

    return make


def _group(folder: Path) -> None:
    """Write the shape whose variants have an audio group and no CODECS, so that the playlist does not state that the
    variants have no audio."""
    master = (folder.parent / "audio" / "master.m3u8").read_text()
    master = re.sub(r',CODECS="[^"]*"', "", master)
    write_lines(folder / "master.m3u8", re.sub(r"(high|low|sound)\.m3u8", r"../audio/\1.m3u8", master).splitlines())


def _group_muxed(folder: Path) -> None:
    """Write the shape whose variants have an audio group and no CODECS, although their segments have both video and
    audio."""
    master = (folder.parent / "audio" / "master.m3u8").read_text()
    master = re.sub(r',CODECS="[^"]*"', "", master)
    master = master.replace("sound.m3u8", "../audio/sound.m3u8")
    write_lines(folder / "master.m3u8", re.sub(r"(high|low)\.m3u8", r"../ts/\1.m3u8", master).splitlines())


def _addresses(folder: Path) -> None:
    """Write the shape with URLs of every form: relative, with the origin (which the site fills in), from the root,
    without a scheme, with a query. In the low variant all URLs have a query, as signed URLs do."""
    _like(folder, "ts")
    forms = ("../ts/", "{origin}/hls/ts/", "/hls/ts/", "//{host}/hls/ts/", "../addresses/./../ts/")
    high = [f"{form}high-{number}.ts" for number, form in enumerate(forms)]
    high[-1] += f"?{QUERY}"
    low = [f"../ts/low-{number}.ts?{QUERY}&n={number}" for number in range(SEGMENTS)]
    write_lines(folder / "high.m3u8", playlist(_segments(*high)))
    write_lines(folder / "low.m3u8", playlist(_segments(*low)))


SHAPES: dict[str, Callable[[Path], None]] = {
    "byterange": _byte_ranges,
    "byterange-fmp4": _byte_ranges_fmp4,
    "keys": _keys,
    "aes-fmp4": _aes_fmp4,
    "discontinuity": _discontinuity,
    "discontinuity-fmp4": _discontinuity_fmp4,
    "gap": _gap,
    "anvato": _ads("#ANVATO-SEGMENT-INFO: type=ad", "#ANVATO-SEGMENT-INFO: type=master"),
    "uplynk": _ads("#UPLYNK-SEGMENT:9f1c2a,00000000,ad", "#UPLYNK-SEGMENT:9f1c2a,00000000,segment"),
    "group": _group,
    "group-muxed": _group_muxed,
    "addresses": _addresses,
}

_OTHERS: dict[tuple[str, str], list[str]] = {
    ("discontinuity", "high"): ["ts/high-0.ts", "ts/high-1.ts", "ts/high-2.ts", "ts/low-3.ts", "ts/low-4.ts"],
    ("discontinuity", "low"): ["ts/low-0.ts", "ts/low-1.ts", "ts/high-2.ts", "ts/low-3.ts", "ts/low-4.ts"],
    ("gap", "high"): [f"ts/high-{number}.ts" for number in (0, 1, 3, 4)],
    ("gap", "low"): [f"ts/low-{number}.ts" for number in (0, 1, 3)],
}


def parts_of(kind: str, variant: str) -> list[str]:
    """Return the files below `hls/` whose concatenated bytes a client should get from the variant `variant` of the
    shape `kind`: decrypted, without advertisements and gaps."""
    if (kind, variant) in _OTHERS:
        return _OTHERS[kind, variant]
    if kind == "discontinuity-fmp4":
        other = VARIANTS[1 - VARIANTS.index(variant)]
        return [*_fragments(variant, 0, 1, 2), *_fragments(other, 3, 4)]
    if kind.endswith("fmp4"):
        return _fragments(variant, *range(SEGMENTS))
    if kind in ("audio", "group"):
        return [f"audio/{variant}-{number}.ts" for number in range(SEGMENTS)]
    return [f"ts/{variant}-{number}.ts" for number in range(SEGMENTS)]


def _fragments(variant: str, *numbers: int) -> list[str]:
    return [f"fmp4/{variant}-init.mp4", *(f"fmp4/{variant}-{number}.m4s" for number in numbers)]
