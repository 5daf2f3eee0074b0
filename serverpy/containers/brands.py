"""The recognition of files that consist of boxes: ISO base media (ISO/IEC 14496-12), QuickTime and HEIF. The brands in
a file's `ftyp` box show which of these formats the file has."""

from __future__ import annotations

from serverpy.containers import table
from serverpy.containers.table import Container

_BRANDS: dict[bytes, Container] = {
    b"M4A ": table.M4A,
    b"M4P ": table.M4A,
    b"F4A ": table.M4A,
    b"M4B ": table.M4B,
    b"F4B ": table.M4B,
    b"qt  ": table.MOV,
    b"avif": table.AVIF,
    b"avis": table.AVIF,  # IANA has no separate media type for AVIF sequences
    b"heic": table.HEIC,
    b"heix": table.HEIC,
    b"heim": table.HEIC,
    b"heis": table.HEIC,
    b"hevc": table.HEICS,
    b"hevx": table.HEICS,
    b"hevm": table.HEICS,
    b"hevs": table.HEICS,
    b"jp2 ": table.JP2,
    b"jxl ": table.JXL,
}
"""Maps each major brand that identifies a container to the container."""
_HEIF = {b"mif1": table.HEIF, b"mif2": table.HEIF, b"miaf": table.HEIF, b"msf1": table.HEIFS}
"""Maps the major brands of HEIF images and sequences of any codec (ISO/IEC 23008-12 §10) to a container. A compatible
brand of the same file may name the codec, and therefore a more specific container."""
_FIRST_BOXES = frozenset({b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"emsg", b"prft"})
"""Types of the boxes with which a segment, or a file without `ftyp`, may begin."""
_QUICKTIME_BOXES = frozenset({b"wide", b"pnot"})


def by_brand(first: bytes) -> tuple[Container, bool] | None:
    """Return the container that the brands at the start of `first` indicate, and whether the container is certain. A
    brand of MP4 or 3GP leaves it uncertain, because the file may have only audio. Returns None if `first` does not
    begin with a known box."""
    kind = first[4:8]
    if kind not in (b"ftyp", b"styp"):
        return _without_brand(first, kind)
    major = first[8:12]
    if major in _HEIF:
        return _of_heif(first, major), True
    if major in _BRANDS:
        return _BRANDS[major], True
    if major == b"KDDI" or major.startswith(b"3g2"):
        return table.GP2, False
    return (table.GP3, False) if major.startswith(b"3g") else (table.MP4, False)


def _without_brand(first: bytes, kind: bytes) -> tuple[Container, bool] | None:
    size = int.from_bytes(first[:4], "big")
    # Text may contain a word such as "free" where a box has its type. The first four characters of such a text, read as
    # a box size, state at least 512 MiB.
    if size not in (0, 1) and not 8 <= size < (1 << 40 if kind == b"mdat" else 1 << 29):
        return None
    if kind in _QUICKTIME_BOXES:
        return table.MOV, True
    return (table.MP4, False) if kind in _FIRST_BOXES else None


def _of_heif(first: bytes, major: bytes) -> Container:
    size = int.from_bytes(first[:4], "big")
    for at in range(16, min(size, len(first) - 3), 4):
        found = _BRANDS.get(first[at : at + 4])
        if found in (table.AVIF, table.HEIC, table.HEICS):
            # An HEIC sequence may list, besides its own brand, the brand `heic` of its still image.
            return table.HEICS if (found, major) == (table.HEIC, b"msf1") else found
    return _HEIF[major]
