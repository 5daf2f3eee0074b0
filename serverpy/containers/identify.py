"""The identification of a file's container, which rejects a file that is not media."""

from __future__ import annotations

from serverpy.containers import magic, table
from serverpy.containers.table import BY_EXTENSION, UNKNOWN, Container, by_type, essence_of
from serverpy.errors import NotMedia

SNIFF_BYTES = 512
"""Number of first bytes that `identify` uses, unless an ID3 tag comes first. Fewer bytes are accepted."""
MAX_TAG_BYTES = 32 * 1024 - SNIFF_BYTES
"""Size of the largest ID3 tag that `identify` skips."""
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
"""Containers of video and audio, each with its audio-only container."""
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
"""Containers that bytes identify only roughly, each with the more specific containers that a declaration may name."""
_BEHIND_ID3 = frozenset(
    {table.MP3, table.MP2, table.AAC, table.AC3, table.EAC3, table.AC4, table.DTS, table.FLAC, table.APE}
    | {table.WAVPACK, table.TTA, table.MUSEPACK}
)
"""Formats that ID3 tags may precede."""
_DOCUMENTS = frozenset({"application/json", "application/xml", "application/xhtml+xml", "application/pdf"})


def identify(
    first: bytes, declared_type: str | None = None, declared_ext: str | None = None, *, is_audio: bool | None = None
) -> Container:
    """Identify the container of a file that begins with `first`: the whole file, or at least `enough_bytes(first)`
    bytes. Further bytes do not change the result.

    The bytes take precedence; if they are inconclusive, `declared_type` (the upstream's Content-Type) and then
    `declared_ext` (the extractor's guess) decide. `is_audio` is whether the track has audio alone; None if the
    extraction does not show that. Raises `NotMedia` if the file is text, markup or a document.
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
    """Return how many bytes `identify` needs of a file that begins with `first`: more than SNIFF_BYTES if an ID3 tag
    comes first. If the result exceeds the length of `first`, call this again with more bytes, because another tag may
    follow."""
    end = _id3_end(first)
    if end + _FRAME_BYTES <= SNIFF_BYTES or end > MAX_TAG_BYTES:
        return SNIFF_BYTES
    return end + SNIFF_BYTES


def sniff(first: bytes) -> Container | None:
    """Return the container that the first bytes alone identify. Returns None if they identify none."""
    if _is_id3(first):
        return _behind_id3(first[: enough_bytes(first)], None, None)
    found = magic.found(first)
    return None if found is None else found[0]


def _is_id3(first: bytes, at: int = 0) -> bool:
    return first.startswith((b"ID3\2", b"ID3\3", b"ID3\4"), at)


def _id3_end(first: bytes) -> int:
    """Return the offset after the leading tags (ID3v2.4 §3.1), as far as `first` contains them; 0 if there are none."""
    end = 0
    while _is_id3(first, end) and len(first) >= end + 10:
        size = 0
        for byte in first[end + 6 : end + 10]:
            size = size << 7 | byte & 0x7F
        end += 10 + size + (10 if first[end + 5] & 0x10 else 0)  # the tag has a footer
    return end


def _behind_id3(first: bytes, declared_type: str | None, declared_ext: str | None) -> Container:
    """Return the format after the tags. If it is beyond `first`, or unknown, the declarations decide."""
    found = magic.found(first[_id3_end(first) :].lstrip(b"\0"))
    for container in (found and found[0], by_type(declared_type), BY_EXTENSION.get(declared_ext or "")):
        if container in _BEHIND_ID3:
            return container
    return table.MP3


def _refine(found: Container, declared_type: str | None, declared_ext: str | None, is_audio: bool | None) -> Container:
    """Prefer a declaration that is more specific than the bytes: an MP4 with audio only, Opus in Ogg, audio in WebM."""
    candidates = _SAYS_MORE[found]
    for declared in (BY_EXTENSION.get(declared_ext or ""), by_type(declared_type)):
        if declared in candidates:
            found = declared
            break
    if is_audio is None:
        return found
    return (_AUDIO_ONLY if is_audio else _WITH_VIDEO).get(found, found)


def _is_document(content_type: str | None) -> bool:
    """Return whether a Content-Type means a document. text/plain does not: servers also declare it for unknown
    files."""
    essence = essence_of(content_type)
    return (essence.startswith(("text/", "font/", "multipart/")) and essence != "text/plain") or essence in _DOCUMENTS
