"""The recognition of Matroska and WebM (RFC 9559), which use EBML (RFC 8794), by the EBML document type and the types
of the tracks."""

from __future__ import annotations

from collections.abc import Iterator

from serverpy.containers import table
from serverpy.containers.table import Container

_EBML = 0x1A45DFA3
_DOC_TYPE = 0x4282
_SEGMENT = 0x18538067
_TRACKS = 0x1654AE6B
_TRACK_ENTRY = 0xAE
_TRACK_TYPE = 0x83
_VIDEO, _AUDIO = 1, 2


def look(first: bytes) -> tuple[Container, bool] | None:
    """Return the container (Matroska or WebM, in the variant with video or for audio only), and whether the container
    is certain. The container is certain only if the track entries that decide lie within `first`. Returns None if
    `first` is neither Matroska nor WebM."""
    if not first.startswith(b"\x1aE\xdf\xa3"):
        return None
    doc_type = next((first[begin:end] for name, begin, end in _inside(first, _EBML) if name == _DOC_TYPE), b"")
    doc_type = doc_type.rstrip(b"\0")
    if doc_type not in (b"webm", b"matroska"):
        return None
    video, audio = (table.WEBM, table.WEBA) if doc_type == b"webm" else (table.MKV, table.MKA)
    types, is_complete = _track_types(first)
    if _VIDEO in types:
        return video, True
    return (audio, True) if is_complete and _AUDIO in types else (video, False)


def _track_types(first: bytes) -> tuple[set[int], bool]:
    """Return the types of the tracks that begin within `first`, and whether the file has no other tracks."""
    tracks = next(((begin, end) for name, begin, end in _inside(first, _SEGMENT) if name == _TRACKS), None)
    if tracks is None:
        return set(), False
    types = set[int]()
    last = tracks[0]
    for name, begin, end in _elements(first, *tracks):
        kind = next((first[b:e] for n, b, e in _elements(first, begin, end) if n == _TRACK_TYPE), None)
        if name == _TRACK_ENTRY:
            if not kind:
                return types, False
            types.add(kind[-1])
        last = end
    return types, last >= tracks[1]


def _inside(first: bytes, parent: int) -> Iterator[tuple[int, int, int]]:
    """Yield the child elements of the top-level element whose ID is `parent`."""
    for name, begin, end in _elements(first, 0, len(first)):
        if name == parent:
            yield from _elements(first, begin, end)
            return


def _elements(first: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the EBML elements between the offsets `at` and `end` of the file that begin within `first`, the first bytes
    of the file. Each element is a tuple: its ID, the offset where its data starts, and the offset where its data
    ends."""
    while at < min(end, len(first)):
        name, at = _number(first, at, keeps_marker=True)
        size, at = _number(first, at, keeps_marker=False)
        if name is None or size is None:
            return
        yield name, at, at + size
        at += size


def _number(first: bytes, at: int, *, keeps_marker: bool) -> tuple[int | None, int]:
    """Read the variable-size integer (RFC 8794 §4) at the offset `at`, and return its value and the offset after the
    integer. The value that means "unknown size" is returned unchanged: it is a huge number. The value is None if the
    integer does not end within `first`."""
    length = 9 - first[at].bit_length() if at < len(first) else 9
    if length > 8 or at + length > len(first):
        return None, at
    value = int.from_bytes(first[at : at + length], "big")
    return value if keeps_marker else value & ((1 << 7 * length) - 1), at + length
