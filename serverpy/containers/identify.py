"""The identification of a file's container. A file that is not media raises an error."""

from __future__ import annotations

from serverpy.containers import magic, table
from serverpy.containers.table import BY_EXTENSION, UNKNOWN, Container, by_type, essence_of
from serverpy.errors import NotMedia

SNIFF_BYTES = 512
"""Number of bytes from the start of a file that `identify` uses, unless the file begins with an ID3 tag. If the file is
shorter, `identify` uses all its bytes."""
MAX_TAG_BYTES = 32 * 1024 - SNIFF_BYTES
"""Size, in bytes, of the largest ID3 tag that `identify` skips."""
_FRAME_BYTES = 128
"""Number of bytes after an ID3 tag that `identify` needs."""

_AUDIO_ONLY = {
    table.MP4: table.M4A,
    table.GP3: table.GP3_AUDIO,
    table.GP2: table.GP2_AUDIO,
    table.WEBM: table.WEBA,
    table.MKV: table.MKA,
    table.ASF: table.WMA,
    table.WMV: table.WMA,
    table.RM: table.RA,
}
"""Maps each container of video and audio to the container of the same family for audio only."""
_WITH_VIDEO = {audio: video for video, audio in _AUDIO_ONLY.items()} | {table.ASF: table.WMV}
_SAYS_MORE: dict[Container, frozenset[Container]] = {
    table.MP4: frozenset({table.M4A, table.M4B, table.GP3, table.GP2}),
    table.GP3: frozenset({table.GP3_AUDIO}),
    table.GP2: frozenset({table.GP2_AUDIO}),
    table.WEBM: frozenset({table.WEBA}),
    table.MKV: frozenset({table.MKA}),
    table.ASF: frozenset({table.WMA, table.WMV}),
    table.RM: frozenset({table.RA}),
    table.OGG: frozenset({table.OPUS, table.OGA, table.SPX, table.OGV}),
}
"""Maps each container that the first bytes do not determine exactly to the more specific containers that the
Content-Type or the extension may name."""
_BEHIND_ID3 = frozenset(
    {table.MP3, table.MP2, table.AAC, table.AC3, table.EAC3, table.AC4, table.DTS, table.FLAC, table.APE}
    | {table.WAVPACK, table.TTA, table.MUSEPACK}
)
"""Formats of the bytes that may follow an ID3 tag."""
_DOCUMENTS = frozenset({"application/json", "application/xml", "application/xhtml+xml", "application/pdf"})


def identify(
    first: bytes, declared_type: str | None = None, declared_ext: str | None = None, *, is_audio: bool | None = None
) -> Container:
    """Identify the container of a file that begins with `first`. If the file is longer than `first`, `first` must have
    at least `enough_bytes(first)` bytes; further bytes do not change the result.

    If the bytes do not identify the container, `declared_type` (the Content-Type that the media server sent) decides
    or, if that names no container, `declared_ext` (the extension that the extractor guessed). `is_audio` states whether
    the track has only audio; None means that the extraction does not show whether it has. Raises `NotMedia` if the file
    is text, markup or a document.
    """
    first = first[: enough_bytes(first)]
    if _is_id3(first):
        return _behind_id3(first, declared_type, declared_ext)
    found = magic.found(first)
    if found is not None:
        container, is_certain = found
        return container if is_certain else _refine(container, declared_type, declared_ext, is_audio)
    declared, is_text = by_type(declared_type), magic.is_text(first)
    if is_text or (declared is None and _is_document(declared_type)):
        raise NotMedia("The media server returned a page or document instead of media.")
    return declared or BY_EXTENSION.get(declared_ext or "", UNKNOWN)


def enough_bytes(first: bytes) -> int:
    """Return how many bytes from the start of a file `identify` needs, if the file begins with `first`. The result
    exceeds SNIFF_BYTES only if the file begins with an ID3 tag. If the result exceeds the length of `first`, the caller
    must call this function again with more bytes, because another ID3 tag may follow."""
    end = _id3_end(first)
    if end + _FRAME_BYTES <= SNIFF_BYTES or end > MAX_TAG_BYTES:
        return SNIFF_BYTES
    return end + SNIFF_BYTES


def sniff(first: bytes) -> Container | None:
    """Return the container that the first bytes identify without a Content-Type or extension. Returns None if the first
    bytes do not identify a container."""
    if _is_id3(first):
        return _behind_id3(first[: enough_bytes(first)], None, None)
    found = magic.found(first)
    return None if found is None else found[0]


def _is_id3(first: bytes, at: int = 0) -> bool:
    return first.startswith((b"ID3\2", b"ID3\3", b"ID3\4"), at)


def _id3_end(first: bytes) -> int:
    """Return the offset of the end of the ID3 tags with which `first` begins (ID3v2.4 §3.1), or 0 if `first` begins
    with no ID3 tag. The end may lie beyond `first`."""
    end = 0
    while _is_id3(first, end) and len(first) >= end + 10:
        size = 0
        for byte in first[end + 6 : end + 10]:
            size = size << 7 | byte & 0x7F
        end += 10 + size + (10 if first[end + 5] & 0x10 else 0)  # a tag with a footer is 10 bytes longer
    return end


def _behind_id3(first: bytes, declared_type: str | None, declared_ext: str | None) -> Container:
    """Return the format of the bytes that follow the ID3 tags. If these bytes lie beyond `first`, or have an unknown
    format, the Content-Type and then the extension decide; MP3 is the default."""
    found = magic.found(first[_id3_end(first) :].lstrip(b"\0"))
    for container in (found and found[0], by_type(declared_type), BY_EXTENSION.get(declared_ext or "")):
        if container in _BEHIND_ID3:
            return container
    return table.MP3


def _refine(found: Container, declared_type: str | None, declared_ext: str | None, is_audio: bool | None) -> Container:
    """Return the container that the extension or the Content-Type declares, if it is more specific than the container
    `found` by the bytes: M4A for MP4, Opus for Ogg, audio-only WebM for WebM. Otherwise return `found`. If `is_audio`
    is not None, it alone decides whether the container is an audio-only one."""
    candidates = _SAYS_MORE[found]
    for declared in (BY_EXTENSION.get(declared_ext or ""), by_type(declared_type)):
        if declared in candidates:
            found = declared
            break
    if is_audio is None:
        return found
    return (_AUDIO_ONLY if is_audio else _WITH_VIDEO).get(found, found)


def _is_document(content_type: str | None) -> bool:
    """Return whether a Content-Type names a type of document. `text/plain` does not count, because servers also send it
    for files of unknown type."""
    essence = essence_of(content_type)
    return (essence.startswith(("text/", "font/", "multipart/")) and essence != "text/plain") or essence in _DOCUMENTS
