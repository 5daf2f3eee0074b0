"""The table of containers, which are recognised by their first bytes, an extension or a Content-Type.

`identify` decides whether bytes are media: it trusts the first bytes if they are conclusive, and rejects web pages,
documents and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from serverpy.errors import NotMedia

SNIFF_BYTES = 512
"""Number of first bytes that `identify` looks at; it accepts fewer."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container (or elementary format): the extension of its files, and its media type (IANA)."""

    ext: str
    content_type: str


MP4 = Container("mp4", "video/mp4")
M4A = Container("m4a", "audio/mp4")
MOV = Container("mov", "video/quicktime")
WEBM = Container("webm", "video/webm")
MKV = Container("mkv", "video/x-matroska")
TS = Container("ts", "video/mp2t")
MP3 = Container("mp3", "audio/mpeg")
AAC = Container("aac", "audio/aac")
OGG = Container("ogg", "audio/ogg")
FLAC = Container("flac", "audio/flac")
WAV = Container("wav", "audio/wav")
FLV = Container("flv", "video/x-flv")
AVI = Container("avi", "video/x-msvideo")
JPEG = Container("jpg", "image/jpeg")
PNG = Container("png", "image/png")
GIF = Container("gif", "image/gif")
WEBP = Container("webp", "image/webp")
AVIF = Container("avif", "image/avif")
HEIC = Container("heic", "image/heic")
VTT = Container("vtt", "text/vtt")
UNKNOWN = Container("bin", "application/octet-stream")

BY_EXTENSION = {
    container.ext: container
    for container in (
        MP4, M4A, MOV, WEBM, MKV, TS, MP3, AAC, OGG, FLAC, WAV, FLV, AVI, JPEG, PNG, GIF, WEBP, AVIF, HEIC, VTT,
    )
} | {
    "jpeg": JPEG,
    "m4v": MP4,
    "f4v": MP4,
    "mpegts": TS,
    "oga": OGG,
    "ogv": Container("ogv", "video/ogg"),
    "opus": Container("opus", "audio/ogg"),
    "weba": Container("weba", "audio/webm"),
    "3gp": Container("3gp", "video/3gpp"),
    "wmv": Container("wmv", "video/x-ms-wmv"),
    "ismv": MP4,
    "mpg": Container("mpg", "video/mpeg"),
}  # fmt: skip

Target = Literal["source", "mp4", "webm", "mkv", "ts", "m4a", "mp3", "opus", "flac", "wav", "slideshow", "images"]
"""Values of `to`."""
TARGETS: tuple[str, ...] = get_args(Target)
UNAVAILABLE = frozenset({"mkv", "ts", "slideshow", "images"})
"""Targets that no opener produces yet. The others are available if the media already has that format."""


def identify(first: bytes, declared_type: str | None = None, declared_ext: str | None = None) -> Container:
    """Identify the container of a body that begins with `first` (at offset 0 of the whole file).

    The bytes take precedence; if they are inconclusive, `declared_type` (the upstream's Content-Type) and then
    `declared_ext` (the extractor's guess) decide. Raises `NotMedia` for text, markup and documents.
    """
    found = sniff(first)
    if found is not None:
        return _refine(found, declared_ext)
    declared = by_type(declared_type)
    if _is_text(first) or (declared is None and _is_document(declared_type)):
        raise NotMedia("The media server returned a page or document instead of media.")
    return declared or BY_EXTENSION.get(declared_ext or "", UNKNOWN)


def declared(declared_type: str | None, declared_ext: str | None) -> Container:
    """Identify the container by the declarations alone, for a body whose first bytes are not available (a range).
    Raises `NotMedia` for documents."""
    by_declared_type = by_type(declared_type)
    if by_declared_type is None and _is_document(declared_type):
        raise NotMedia("The media server returned a page or document instead of media.")
    by_ext = BY_EXTENSION.get(declared_ext or "")
    return by_ext or by_declared_type or UNKNOWN


def by_type(content_type: str | None) -> Container | None:
    """Return the container that a Content-Type names, or None if it does not name media."""
    if not content_type:
        return None
    essence = content_type.partition(";")[0].strip().lower()
    if essence in _BY_TYPE:
        return _BY_TYPE[essence]
    if re.fullmatch(r"(audio|video)/[\w.+-]+", essence):
        return Container("bin", essence)
    return None


def sniff(first: bytes) -> Container | None:
    """Return the container that the first bytes prove, or None."""
    for test, container in _MAGIC:
        if test(first):
            return container
    return _sniff_brands(first) if first[4:8] in (b"ftyp", b"styp") else None


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda first: first.startswith(prefixes)


def _is_ts(first: bytes) -> bool:
    """Sync byte 0x47 at the start of each 188-byte packet (ISO/IEC 13818-1 §2.4.3.2); looks at three at most."""
    return first[:1] == b"G" and len(first) > 188 and all(first[at] == 0x47 for at in range(0, len(first), 188)[:3])


def _is_mpeg_audio(first: bytes) -> bool:
    """Frame sync, and no reserved layer, bit rate or sample rate (ISO/IEC 11172-3 §2.4.2.3)."""
    return (
        len(first) > 3
        and first[0] == 0xFF
        and first[1] & 0xE0 == 0xE0
        and first[1] & 0x06 != 0
        and first[2] & 0xF0 != 0xF0
        and first[2] & 0x0C != 0x0C
    )


def _is_adts(first: bytes) -> bool:
    """ADTS sync with layer 0 (ISO/IEC 13818-7 §6.2)."""
    return len(first) > 2 and first[0] == 0xFF and first[1] & 0xF6 == 0xF0


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda first: first[:4] == b"RIFF" and first[8:12] == kind


def _ebml(doctype: bytes) -> Callable[[bytes], bool]:
    return lambda first: first.startswith(b"\x1aE\xdf\xa3") and doctype in first[:64]


_MAGIC: tuple[tuple[Callable[[bytes], bool], Container], ...] = (
    (_ebml(b"webm"), WEBM),
    (_ebml(b"matroska"), MKV),
    (_is_ts, TS),
    (_starts(b"ID3"), MP3),
    (_is_adts, AAC),
    (_is_mpeg_audio, MP3),
    (_starts(b"OggS"), OGG),
    (_starts(b"fLaC"), FLAC),
    (_riff(b"WAVE"), WAV),
    (_riff(b"AVI "), AVI),
    (_riff(b"WEBP"), WEBP),
    (_starts(b"FLV\x01"), FLV),
    (_starts(b"\xff\xd8\xff"), JPEG),
    (_starts(b"\x89PNG\r\n\x1a\n"), PNG),
    (_starts(b"GIF87a", b"GIF89a"), GIF),
    (_starts(b"WEBVTT", b"\xef\xbb\xbfWEBVTT"), VTT),
    (lambda first: first[4:8] in (b"moov", b"mdat", b"moof", b"sidx", b"free", b"wide", b"skip"), MP4),
)
"""The order matters: an ADTS frame differs from an MPEG audio frame only in its layer."""


def _sniff_brands(first: bytes) -> Container:
    """Read the major brand (ISO/IEC 14496-12 §4.3). Returns MP4 if it says no more than "an ISO base media file"."""
    brand = first[8:12]
    if brand == b"M4A ":
        return M4A
    if brand == b"qt  ":
        return MOV
    if brand == b"avif":
        return AVIF
    if brand in (b"heic", b"heix", b"mif1"):
        return HEIC
    return MP4


def _refine(found: Container, declared_ext: str | None) -> Container:
    """Prefer an extension that says more than the bytes: an MP4 with audio only, Opus in Ogg, audio in WebM."""
    says_more = {(MP4, "m4a"): M4A, (MP4, "3gp"): BY_EXTENSION["3gp"], (OGG, "opus"): BY_EXTENSION["opus"]}
    says_more |= {(WEBM, "weba"): BY_EXTENSION["weba"], (OGG, "ogv"): BY_EXTENSION["ogv"]}
    return says_more.get((found, declared_ext or ""), found)


def _is_text(first: bytes) -> bool:
    """Whether `first` is markup, JSON or plain text: it has no control byte that text does not have."""
    return bool(first) and not _NOT_TEXT.search(first)


def _is_document(content_type: str | None) -> bool:
    essence = (content_type or "").partition(";")[0].strip().lower()
    return essence.startswith(("text/", "font/", "multipart/")) or essence in _DOCUMENTS


_NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_DOCUMENTS = frozenset({"application/json", "application/xml", "application/xhtml+xml", "application/pdf"})
_BY_TYPE = {container.content_type: container for container in BY_EXTENSION.values()} | {
    "audio/mp3": MP3,
    "audio/x-m4a": M4A,
    "audio/m4a": M4A,
    "audio/aacp": AAC,
    "audio/x-wav": WAV,
    "audio/wave": WAV,
    "audio/x-flac": FLAC,
    "application/mp4": MP4,
    "application/ogg": OGG,
    "video/x-m4v": MP4,
    "image/jpg": JPEG,
}
_BY_TYPE["audio/ogg"] = OGG
_BY_TYPE["video/mp4"] = MP4
