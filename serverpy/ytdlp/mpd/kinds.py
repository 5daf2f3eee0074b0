"""The properties of a DASH representation: its media type, container, codecs, language and role. The module does no
I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from serverpy.languages import normalized
from serverpy.ytdlp.mpd.reading import child, children, segment_description

_KINDS = ("video", "audio", "text")
_IMAGES = ("image/avif", "image/jpeg")
"""MIME types of the images from which yt-dlp makes storyboards."""
_TEXT_CONTAINERS = frozenset({"ttml+xml", "ttaf+xml", "vtt", "x-subrip", "json", "xml"})
_UNDEFINED = frozenset({"", "und", "mul", "zxx", "mis"})
_CODECS = re.compile(r"""\bcodecs\s*=\s*["']?([^"';]+)""", re.IGNORECASE)
_TRICK_MODE = "http://dashif.org/guidelines/trickmode"
_UNDERSTOOD = re.compile(r"urn:mpeg:mpegB:cicp:.*|http://dashif\.org/(guidelines/)?thumbnail_tile", re.IGNORECASE)
"""Pattern of the schemes of essential properties that a player may ignore: colour information, because the media itself
states it, too, and thumbnail tiles, because yt-dlp makes storyboards from them."""
_BY_EXTENSION = {"webm": "webm", "weba": "webm", "ts": "mp2t"}
_FAMILIES = {
    **dict.fromkeys(("avc1", "avc2", "avc3", "avc4", "h264"), "avc"),
    **dict.fromkeys(("hvc1", "hvc2", "hev1", "hev2"), "hevc"),
    **dict.fromkeys(("dvh1", "dvhe"), "dolby-hevc"),
    **dict.fromkeys(("dva1", "dvav"), "dolby-avc"),
    **dict.fromkeys(("vvc1", "vvi1"), "vvc"),
    **dict.fromkeys(("vp8", "vp08"), "vp8"),
    **dict.fromkeys(("vp9", "vp09"), "vp9"),
    **dict.fromkeys(("av1", "av01"), "av1"),
    **dict.fromkeys(("ec-3", "eac3", "mp4a.a6"), "ec-3"),
    **dict.fromkeys(("ac-3", "ac3", "mp4a.a5"), "ac-3"),
    **dict.fromkeys(("mp3", "mp4a.69", "mp4a.6b", "mp4a.40.34"), "mp3"),
    **dict.fromkeys(("mp4a", "aac"), "aac"),
    **dict.fromkeys(("dtsc", "dtse", "dtsh", "dtsl"), "dts"),
}
"""Maps a prefix of a codec string (RFC 6381) to the family of the codec. One decoder handles all codecs of a family.
The longest matching prefix determines the family."""
_VIDEO = frozenset({"avc", "hevc", "dolby-hevc", "dolby-avc", "vvc", "vp8", "vp9", "av1", "mp4v", "theora", "h263"})
_AUDIO = frozenset({"ec-3", "ac-3", "ac-4", "mp3", "aac", "dts", "opus", "vorbis", "flac", "mha1", "mhm1", "alac"})
_TEXT = frozenset({"stpp", "wvtt"})


class Typed(NamedTuple):
    kind: str
    container: str
    mime_type: str


def typed(attributes: Mapping[str, str], levels: Sequence[Element]) -> Typed | None:
    """Return the media type and container of a representation. The attribute `mimeType` is mandatory (ISO/IEC 23009-1
    §5.3.7.2), but often missing. If it is missing, `contentType`, the codecs or other attributes determine the media
    type. Returns None if no attribute determines it."""
    mime_type = attributes.get("mimeType", "").strip().lower()
    content_type = attributes.get("contentType", "").strip().lower() or _component(levels)
    top, _, container = mime_type.partition("/")
    if mime_type in _IMAGES:
        return Typed(mime_type, container, mime_type)
    names = (content_type, top, *_by_codecs(attributes.get("codecs", "")), _by_attributes(attributes, levels))
    kind = next((name for name in names if name in _KINDS), None)
    if kind is None and container in _TEXT_CONTAINERS:
        kind = "text"
    if kind is None:
        return None
    if not container:
        container = _container(attributes.get("codecs", ""), levels)
        mime_type = f"{'application' if kind == 'text' else kind}/{container}"
    return Typed(kind, container, mime_type)


def with_parameters(attributes: dict[str, str]) -> dict[str, str]:
    """Return `attributes` with the parameters of `mimeType` removed, and with the value of the parameter `codecs` (RFC
    6381) as the attribute `codecs`, if `attributes` has no such attribute."""
    mime_type, _, parameters = attributes.get("mimeType", "").partition(";")
    if not parameters:
        return attributes
    found = _CODECS.search(parameters)
    codecs = {"codecs": found[1]} if found and not attributes.get("codecs") else {}
    return {**attributes, **codecs, "mimeType": mime_type}


def _component(levels: Sequence[Element]) -> str:
    """Return the content type that all ContentComponent elements of the adaptation set state. Returns "" (unknown) if
    they state different content types or none."""
    found = {each.get("contentType", "") for each in children(levels[1], "ContentComponent")}
    return next(iter(found)) if len(found) == 1 else ""


def _by_codecs(codecs: str) -> Iterator[str]:
    found = set(families(codecs).split("+"))
    yield from (kind for kind, known in (("video", _VIDEO), ("audio", _AUDIO), ("text", _TEXT)) if found & known)


def _by_attributes(attributes: Mapping[str, str], levels: Sequence[Element]) -> str:
    if any(attributes.get(name) for name in ("width", "height", "frameRate")):
        return "video"
    return "audio" if attributes.get("audioSamplingRate") or channels(levels[:2]) else ""


def _container(codecs: str, levels: Sequence[Element]) -> str:
    """Return the container that the file extension in the URLs of the segments or, if it shows none, the codecs
    indicate. The default is MP4, which most DASH presentations use."""
    described = segment_description(levels)
    listed = described.children("SegmentURL")[:1]
    named = [described.get("media"), *(each.get("media") for each in listed)]
    named += [each.text for level in levels for each in children(level, "BaseURL")[:1]]
    for name in filter(None, named):
        if found := _BY_EXTENSION.get(_path(name).rpartition(".")[2].lower()):
            return found
    return "webm" if set(families(codecs).split("+")) & {"vp8", "vorbis"} else "mp4"


def _path(url: str) -> str:
    try:
        return urlsplit(url.strip()).path
    except ValueError:
        return ""


def families(codecs: str) -> str:
    """Return the families of the codecs in `codecs`, sorted and joined by `+`. Returns "" if `codecs` is empty."""
    names = [each.strip().lower() for each in codecs.split(",")[:10]]
    return "+".join(sorted({_family(name) for name in names if name}))


def _family(codec: str) -> str:
    parts = codec.split(".")[:3]
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((_FAMILIES[prefix] for prefix in prefixes if prefix in _FAMILIES), parts[0])


def language(tag: str | None) -> str | None:
    found = normalized(tag or "")
    return None if found in _UNDEFINED else found


def role(group: Element) -> str:
    """Return the values of the Role and Accessibility elements of an adaptation set, sorted, without `main`."""
    found = {each.get("value", "") for each in children(group, "Role")} - {"", "main"}
    found |= {f"accessibility:{each.get('value', '')}" for each in children(group, "Accessibility")}
    if any(each.get("schemeIdUri") == _TRICK_MODE for each in children(group, "EssentialProperty")):
        found.add("trick mode")
    return " ".join(sorted(found))


def is_main(group: Element) -> bool:
    """Return whether an adaptation set states that it is the main content of its media type."""
    return any(each.get("value") == "main" for each in children(group, "Role"))


def is_special(levels: Sequence[Element]) -> bool:
    """Return whether the representation has an essential property that tells players not to play it as the main
    content: any scheme that `_UNDERSTOOD` does not match, such as trick mode or a tile of a larger picture (ISO/IEC
    23009-1 §5.8.4.8)."""
    properties = (each for level in levels for each in children(level, "EssentialProperty"))
    return any(not _UNDERSTOOD.fullmatch(each.get("schemeIdUri", "").strip()) for each in properties)


def channels(levels: Sequence[Element]) -> str:
    found = (child(each, "AudioChannelConfiguration") for each in levels)
    return next((each.get("value", "") for each in found if each is not None), "")


def whole(value: str | None) -> int:
    """Return `value` as an integer for comparisons. Returns 0 if `value` is missing or malformed."""
    found = re.fullmatch(r"\s*(\d{1,15})\s*", value or "", re.ASCII)
    return int(found[1]) if found else 0
