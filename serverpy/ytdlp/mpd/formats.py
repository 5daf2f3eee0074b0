"""A replacement for yt-dlp's parser of DASH manifests, for every extractor of the process, without another request.

yt-dlp's own parser still makes the formats, with all the fields that extractors expect, but from a copy of the manifest
that has no segments. The copy has no segments, because yt-dlp ignores byte ranges and open-ended timelines, splits a
presentation whose periods differ, and builds lists of any length. Instead, `listing.py` lists the segments. If the
segments of a format cannot be listed, the format remains, with the reason why it cannot be streamed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, ParseError, SubElement

from yt_dlp.extractor import common

# The functions below import the other modules of this package late, because they take 1 MB, and most child processes of
# the method `subprocess` read no manifest.
if TYPE_CHECKING:
    from serverpy.ytdlp.mpd.joining import Joined
    from serverpy.ytdlp.mpd.listing import Listing, Part
    from serverpy.ytdlp.mpd.representations import Period, Representation

REFUSAL = "_serverpy_refusal"
"""The name of the field of a format that states why the format cannot be streamed."""
ALTERNATE_PREFERENCE = -2
"""Value of yt-dlp's `source_preference` for audio that is not the main audio, such as a commentary, an audio
description, or audio without a role if another audio has the role `main`. yt-dlp itself sets this value for the
alternate audio of HLS."""
_PERIOD = "_serverpy_period"
_LAST = -100
"""Value of yt-dlp's field `preference` for formats that must never be the default: all other formats take precedence
over them."""
_PROTOCOL = "http_dash_segments"
_PARSER = "compat_etree_fromstring"

Parse = Callable[..., Any]


class Fragments(Sequence[dict[str, Any]]):
    """The segments of a listing in the form of yt-dlp's field `fragments`. Each fragment is made only when it is
    iterated. yt-dlp's downloader of DASH ignores the fields `byte_range` and `may_be_absent`, so
    `download/fragments.py` implements them."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing

    def __len__(self) -> int:
        return len(self.listing)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for each in self.listing:
            fragment: dict[str, Any] = {"url": each.url}
            if each.duration is not None:
                fragment["duration"] = each.duration
            if each.end is not None:
                fragment["byte_range"] = {"start": each.first, "end": each.end}
            if each.may_be_absent:
                fragment["may_be_absent"] = True
            yield fragment

    @property
    def held_bytes(self) -> int:
        """The estimated memory of this object, in bytes."""
        return sum(part.held_bytes for part in self.listing.parts)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def install() -> None:
    """Patch yt-dlp with the parser of this module. Call this once per process, before the first extractor is
    imported."""
    extractor = common.InfoExtractor
    stock_periods, stock_merge = extractor._parse_mpd_periods, extractor._merge_mpd_periods

    def parse_periods(
        self: Any, mpd_doc: Any, mpd_id: Any = None, mpd_base_url: Any = "", mpd_url: Any = None
    ) -> Iterator[dict[str, Any]]:
        if not isinstance(mpd_doc, Element):
            return stock_periods(self, mpd_doc, mpd_id, mpd_base_url, mpd_url)  # type: ignore[no-any-return]
        parse = lambda copy: next(iter(stock_periods(self, copy, mpd_id, "", mpd_url)))  # noqa: E731
        return iter(entries(mpd_doc, document_url(mpd_base_url, mpd_url), mpd_url, parse))

    def merge_periods(self: Any, periods: Any) -> Any:
        found = list(periods)
        if not all(_PERIOD in period for period in found):
            return stock_merge(self, found)
        return merged(found)

    extractor._parse_mpd_periods, extractor._merge_mpd_periods = parse_periods, merge_periods
    extractor._guess_encoding_from_content = staticmethod(_with_utf_16_be(extractor._guess_encoding_from_content))
    for name in ("compat", "extractor.common", "extractor.generic"):
        # a module that is imported later takes the function from `compat`
        if module := sys.modules.get(f"yt_dlp.{name}"):
            vars(module)[_PARSER] = _tolerant_without_entities(vars(module)[_PARSER])


def _with_utf_16_be(guess: Callable[[str, bytes], str]) -> Callable[[str, bytes], str]:
    """Return a function like `guess` that also recognises the byte order mark of big-endian UTF-16, which XML parsers
    have to accept (XML §4.3.3). yt-dlp's function recognises only that of little-endian UTF-16."""

    def guessed(content_type: str, content: bytes) -> str:
        return "utf-16" if content.startswith(b"\xfe\xff") else guess(content_type, content)

    return guessed


def _tolerant_without_entities(parse: Parse) -> Parse:
    """Return a parser like `parse` that accepts white space and NUL bytes around a document, and refuses documents with
    entity declarations, because entities may expand to a hundred times their size."""

    def parsed(text: str | bytes) -> Any:
        if (b"<!ENTITY" if isinstance(text, bytes) else "<!ENTITY") in text:  # type: ignore[operator]
            raise ParseError("XML entities are not supported")
        return parse(text.strip(b" \t\r\n\0" if isinstance(text, bytes) else " \t\r\n\0"))  # type: ignore[arg-type]

    return parsed


def document_url(base: str | None, url: str | None) -> str:
    """Return the base of the relative URLs in a manifest. yt-dlp passes two values: `base` is the folder of the
    manifest after redirects; `url` is the URL of the manifest, maybe before the redirects, or None."""
    if not base:
        return url or ""
    folder = base.rstrip("/") + "/"
    return url if url and url.startswith(folder) and "/" not in urlsplit(url[len(folder) :]).path else folder


def entries(mpd: Element, document: str, mpd_url: str | None, parse: Parse) -> list[dict[str, Any]]:
    """Return the periods of the manifest in yt-dlp's form. `parse` is yt-dlp's parser; it returns the only period of a
    manifest with one period."""
    from serverpy.ytdlp.mpd.representations import read
    from serverpy.ytdlp.mpd.windows import is_live

    now = time.time()
    found = [_entry(mpd, period, mpd_url, parse) for period in read(mpd, document, now)]
    if mpd.get("type") == "dynamic" and not is_live(mpd, now):
        mpd.set("type", "static")  # the generic extractor reads the attribute `type` later
    return found


def _entry(mpd: Element, period: Period, mpd_url: str | None, parse: Parse) -> dict[str, Any]:
    from serverpy.ytdlp.mpd.listing import Listing

    formats: dict[int, dict[str, Any]] = {}
    subtitles: dict[str, list[dict[str, Any]]] = {}
    has_main = any(each.is_main and each.kind == "audio" and not each.role for each in period.representations)
    for representation in period.representations:
        parsed = parse(_copy(mpd, representation))
        for fmt in parsed["formats"]:
            formats[id(representation)] = fmt
            is_alternate = bool(representation.role) or (has_main and not representation.is_main)
            if is_alternate and fmt.get("vcodec") == "none":
                fmt["source_preference"] = ALTERNATE_PREFERENCE
        for language, files in parsed["subtitles"].items():
            for file in files:
                _describe(file, representation, representation.part and Listing((representation.part,)), mpd_url)
            subtitles.setdefault(language, []).extend(files)
    return {
        "id": period.id,
        "formats": list(formats.values()),
        "subtitles": subtitles,
        _PERIOD: (period, formats, mpd_url),
    }


def _copy(mpd: Element, representation: Representation) -> Element:
    """Return a copy of the manifest that contains only `representation`, and no segments."""
    copy = Element("MPD", {"type": mpd.get("type", "static")})
    group = SubElement(SubElement(copy, "Period"), "AdaptationSet")
    element = SubElement(group, "Representation", dict(representation.attributes))
    SubElement(element, "BaseURL", dict(representation.base_attributes)).text = representation.base
    if representation.has_drm:
        SubElement(element, "ContentProtection")
    return copy


def merged(periods: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Join the formats and subtitles of the periods, and return them in yt-dlp's form."""
    from serverpy.ytdlp.mpd.joining import join

    subtitles: dict[str, Any] = {}
    for period in periods:
        for language, files in period["subtitles"].items():
            subtitles.setdefault(language, []).extend(files)
    numbers: Counter[str] = Counter()
    formats = []
    for joined in join([period[_PERIOD][0] for period in periods]):
        _, known, mpd_url = periods[joined.period][_PERIOD]
        if (fmt := known.get(id(joined.seed))) is not None:
            formats.append(_format(dict(fmt), joined, mpd_url, several=len(periods) > 1))
            formats[-1]["manifest_stream_number"] = numbers[formats[-1]["url"]]
            numbers[formats[-1]["url"]] += 1
    return formats, subtitles


def _format(fmt: dict[str, Any], joined: Joined, mpd_url: str | None, *, several: bool) -> dict[str, Any]:
    fmt["is_dash_periods"] = True
    if several and (joined.listing is None or len(joined.listing.parts) > 1):
        fmt["filesize"] = None  # the value of yt-dlp is the size in one period only
    if joined.has_drm:
        fmt["has_drm"] = True
    if joined.seed.is_special:
        fmt["preference"] = _LAST
    _describe(fmt, joined.seed, joined.listing, mpd_url)
    if joined.refusal is not None:
        fmt[REFUSAL] = joined.refusal
    return fmt


def _describe(fmt: dict[str, Any], seed: Representation, listing: Listing | Part | None, mpd_url: str | None) -> None:
    """Set the fields of a format that state from which URLs its bytes are requested. As in yt-dlp, the URL of a format
    that consists of segments is that of the manifest."""
    from serverpy.ytdlp.mpd.listing import Listing

    if isinstance(listing, Listing) and (url := listing.file) is not None:
        fmt["url"] = url
        return
    fmt.update(url=mpd_url or seed.base, fragment_base_url=seed.base)
    fmt["protocol"] = "mhtml" if seed.kind.startswith("image/") else _PROTOCOL
    if isinstance(listing, Listing):
        fmt["fragments"] = Fragments(listing)
