"""Repair of HLS playlists before yt-dlp parses them, for every extractor of the process and without another request.

yt-dlp is stricter than players. It treats a playlist without EXT-X-TARGETDURATION as a master playlist, and ignores an
audio rendition without a NAME (so that it treats a video-only variant as one with audio). It does not replace variables
in URLs, loses attributes with white space beside the equals sign or comma, and fails if an EXTINF duration is not a
number. It treats a playlist as encrypted with DRM if one of its keys is for a DRM system, even if another key is not.
The functions that repair a text do no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import parse_m3u8_attributes

from serverpy.net.urls import resolve

AUDIO_APART = "_serverpy_audio_apart"
"""The name of the field that this module adds to a format if its variant has no CODECS attribute and its audio is in
separate playlists."""
_HEADER = b"#EXTM3U"
_BEFORE_HEADER = b"\xef\xbb\xbf \t\r\n"
_SEGMENT = re.compile(r"^#EXT(?:INF:(?![ \t]*-)|-X-(?:ENDLIST|MEDIA-SEQUENCE|BYTERANGE|KEY|MAP)\b)", re.MULTILINE)
"""Pattern of a tag that only media playlists have. An IPTV playlist (a list of TV channels) does not match, because its
EXTINF durations are negative."""
_VARIABLE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
_TAG = re.compile(r"#EXT-X-(?:STREAM-INF|MEDIA|I-FRAME-STREAM-INF|DEFINE|(?:SESSION-)?KEY):")
"""Pattern of the tags whose attribute lists yt-dlp reads."""
_URI = re.compile(r'(?<=[:,])(URI=")([^"]*)"')
"""Pattern of a URI attribute."""
_WHITE_SPACE = re.compile(r'("[^"]*")|(?<![ \t])[ \t]*([=,])[ \t]*')
"""Pattern of a quoted string, or of an equals sign or comma and the white space beside it. White space is matched from
its beginning only, so that the search takes linear time."""
_MAX_DOCUMENT = 8 * 1024 * 1024
_NAMELESS = re.compile(r'(?<=[:,])NAME=""')


def install() -> None:
    """Patch yt-dlp with the functions of this module. Call this once per process."""
    parse_master = InfoExtractor._parse_m3u8_formats_and_subtitles

    def parse(self: Any, m3u8_doc: str, m3u8_url: str | None = None, *args: Any, **kwargs: Any) -> Any:
        text = mended(m3u8_doc, m3u8_url or "")
        formats, subtitles = parse_master(self, text, m3u8_url, *args, **kwargs)
        _mark(formats, {urljoin(m3u8_url or "", address) for address in addresses_without_audio(text)})
        return formats, subtitles

    InfoExtractor._parse_m3u8_formats_and_subtitles = parse
    InfoExtractor._parse_m3u8_vod_duration = lambda self, m3u8_vod, video_id: duration_of(m3u8_vod)


def begin_with_header(data: bytes) -> bytes:
    """Return `data`, the first bytes of a response, without a byte order mark and empty lines before EXTM3U. Returns
    `data` unchanged if the response is not a playlist."""
    if data[:1] not in (b"\xef", b" ", b"\t", b"\r", b"\n"):
        return data
    stripped = data.lstrip(_BEFORE_HEADER)
    return stripped if stripped.startswith(_HEADER) else data


def mended(text: str, url: str) -> str:
    """Return the text of the playlist at `url` in a form that yt-dlp parses correctly."""
    if _TAG.search(text):
        text = "\n".join(_without_other_keys([_tidy(line) for line in text.splitlines()]))
    if "#EXT-X-STREAM-INF" not in text and "#EXT-X-MEDIA:" not in text:
        is_strange = "#EXT-X-TARGETDURATION" not in text and _SEGMENT.search(text)
        return f"{text}\n#EXT-X-TARGETDURATION:0\n" if is_strange else text
    if url:
        text = "\n".join(_as_browsers_resolve(line, url) for line in text.splitlines())
    if "#EXT-X-DEFINE" in text and "{$" in text:
        text = "\n".join(_with_values(text.splitlines(), url))
    if "#EXT-X-MEDIA:" in text:
        text = "\n".join(_with_defaults([_with_name(line) for line in text.splitlines()]))
    return text


def addresses_without_audio(text: str) -> Iterable[str]:
    """Yield the URLs, as written in the playlist, of the variants that have no CODECS attribute and whose audio is only
    in separate playlists. (RFC 8216 §4.3.4.2 requires CODECS for every variant that names a rendition group.)"""
    groups: dict[str, bool] = {}
    pending: dict[str, str] = {}
    lines = text.splitlines() if "#EXT-X-MEDIA:" in text else []
    for line in lines:
        if line.startswith("#EXT-X-MEDIA:") and (media := parse_m3u8_attributes(line)).get("TYPE") == "AUDIO":
            group = media.get("GROUP-ID", "")
            groups[group] = groups.get(group, True) and bool(media.get("URI"))
    for line in lines if groups else ():
        if line.startswith("#EXT-X-STREAM-INF:"):
            pending = parse_m3u8_attributes(line)
        elif line.strip() and not line.startswith("#"):
            if not pending.get("CODECS") and groups.get(pending.get("AUDIO", "")):
                yield line.strip()
            pending = {}


def duration_of(text: str) -> int | None:
    """Return the duration of a finished media playlist in seconds. Returns None for any other playlist, and if the
    duration is 0 or implausible. EXTINF values that are not numbers count as 0."""
    if "#EXT-X-ENDLIST" not in text:
        return None
    total = sum(_seconds(line[len("#EXTINF:") :]) for line in text.splitlines() if line.startswith("#EXTINF:"))
    return max(int(total), 1) if 0 < total < 1e9 else None


def _seconds(text: str) -> float:
    try:
        found = float(text.partition(",")[0].strip().partition(" ")[0])
    except ValueError:
        return 0.0
    return found if 0 <= found < 1e9 else 0.0


def _with_values(lines: Iterable[str], url: str) -> Iterable[str]:
    """Replace variables in the playlist with their values (RFC 8216bis §4.3). Does not replace a variable without a
    value, because players may not need the line that contains it."""
    values: dict[str, str] = {}
    query = parse_qs(urlsplit(url).query)
    left = _MAX_DOCUMENT
    for line in lines:
        if line.startswith("#EXT-X-DEFINE:"):
            given = parse_m3u8_attributes(line)
            if name := given.get("NAME") or given.get("QUERYPARAM"):
                values[name] = given.get("VALUE", query.get(given.get("QUERYPARAM", ""), [""])[0])
        elif "{$" in line and left > 0:
            line = _VARIABLE.sub(lambda match: values.get(match[1], match[0]), line)
            left -= len(line)
        yield line


def _tidy(line: str) -> str:
    """Return `line` without white space beside the equals signs and commas of its attribute list."""
    if not _TAG.match(line) or not (" " in line or "\t" in line):
        return line
    name, _, attributes = line.partition(":")
    return f"{name}:{_WHITE_SPACE.sub(lambda match: match[1] or match[2], attributes.strip())}"


def _without_other_keys(lines: Sequence[str]) -> Iterable[str]:
    """Yield `lines` without the keys of DRM systems if there are keys of the same kind (EXT-X-KEY or EXT-X-SESSION-KEY)
    that need no DRM: a client chooses a KEYFORMAT that it knows (RFC 8216 §4.3.2.4). The parser of the media playlist
    decides later whether each segment has such a key."""
    tagged = (
        (line, line.partition(":")[0]) for line in lines if line.startswith(("#EXT-X-KEY:", "#EXT-X-SESSION-KEY:"))
    )
    keys = {line: (name, parse_m3u8_attributes(line)) for line, name in tagged}
    plain = {
        name
        for name, given in keys.values()
        if given.get("METHOD") == "AES-128" and given.get("KEYFORMAT", "identity") == "identity"
    }
    for line in lines:
        name, given = keys.get(line, ("", {}))
        if name not in plain or given.get("KEYFORMAT", "identity") == "identity":
            yield line


def _as_browsers_resolve(line: str, url: str) -> str:
    """Return `line` with an absolute URL if yt-dlp would resolve its URI differently from browsers."""
    if line.startswith("#"):
        return _URI.sub(lambda match: f'{match[1]}{_address(match[2], url)}"', line)
    return _address(line.strip(), url) if line.strip() else line


def _address(uri: str, url: str) -> str:
    """Return the absolute URL of `uri` in the playlist at `url` if yt-dlp would resolve `uri` differently. Otherwise,
    or if `uri` is invalid, returns `uri`."""
    try:
        resolved = resolve(url, uri)
        return uri if resolved == urljoin(url, uri) else resolved
    except ValueError:
        return uri


def _with_name(line: str) -> str:
    """Return `line` with a NAME if it is a rendition without one. The NAME is the language of the rendition or, if it
    states no language, its group ID."""
    if not line.startswith("#EXT-X-MEDIA:"):
        return line
    media = parse_m3u8_attributes(line)
    if media.get("NAME") or not media.get("GROUP-ID"):
        return line
    name = media.get("LANGUAGE") or media["GROUP-ID"]
    return f'{_NAMELESS.sub("X-NAMELESS=1", line.rstrip())},NAME="{name}"'


def _with_defaults(lines: Sequence[str]) -> Iterable[str]:
    """Add DEFAULT=NO to each rendition without a DEFAULT attribute if another rendition of the group has DEFAULT=YES. A
    missing DEFAULT means NO (RFC 8216 §4.3.4.1), but yt-dlp treats renditions without the attribute as defaults,
    too."""
    tagged = ((at, line) for at, line in enumerate(lines) if line.startswith("#EXT-X-MEDIA:"))
    renditions = {at: parse_m3u8_attributes(line) for at, line in tagged}
    decided = {_group(each) for each in renditions.values() if each.get("DEFAULT") == "YES"}
    for at, line in enumerate(lines):
        media = renditions.get(at)
        is_silent = media is not None and "DEFAULT" not in media and _group(media) in decided
        yield f"{line.rstrip()},DEFAULT=NO" if is_silent else line


def _group(media: dict[str, str]) -> tuple[str | None, str | None]:
    return media.get("TYPE"), media.get("GROUP-ID")


def _mark(formats: Iterable[dict[str, Any]], addresses: set[str]) -> None:
    for fmt in formats:
        if fmt["url"] in addresses:
            fmt[AUDIO_APART] = True
