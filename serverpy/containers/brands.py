"""Files of boxes: ISO base media (ISO/IEC 14496-12), QuickTime and HEIF, told apart by their brands."""

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
    b"avis": table.AVIF,  # IANA has no type of its own for sequences
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
"""Major brands that identify the container."""
_HEIF = {b"mif1": table.HEIF, b"mif2": table.HEIF, b"miaf": table.HEIF, b"msf1": table.HEIFS}
"""Brands of images and sequences of any codec (ISO/IEC 23008-12 §10): a compatible brand names the codec."""
_FIRST_BOXES = frozenset({b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"emsg", b"prft"})
"""Boxes with which a file without `ftyp`, or a segment, may begin."""
_QUICKTIME_BOXES = frozenset({b"wide", b"pnot"})


def by_brand(first: bytes) -> tuple[Container, bool] | None:
    """Return the container and whether it is certain, as `magic.found` does. MP4 and 3GP may be audio alone."""
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
    # Text may contain such a word at this position. The four characters before it would mean a size of hundreds of
    # megabytes.
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
            # A sequence may also list the brand of its still image.
            return table.HEICS if (found, major) == (table.HEIC, b"msf1") else found
    return _HEIF[major]
