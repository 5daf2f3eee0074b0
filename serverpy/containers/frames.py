"""The recognition of elementary and packetized streams, which have no file header. A stream is recognised by its first
frame, and also by its second frame if the second frame begins within the bytes that were read."""

from __future__ import annotations

from serverpy.containers import table
from serverpy.containers.table import Container

_KBITS = {  # bit rates of ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3, in kbit/s; key: (is MPEG-1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_DTS_SYNCS = (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\0\x07", b"\xff\x1f\0\xe8\xf1\x07")
_SAMPLE_RATES = (44_100, 48_000, 32_000)
_HALVINGS = {3: 0, 2: 1, 0: 2}
"""Maps the version field of a frame header (3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5) to the number of times that the
version halves the sample rates of MPEG-1."""


def elementary(first: bytes) -> Container | None:
    """Return the format of the elementary or packetized stream whose first frame begins at the start of `first`.
    Returns None if `first` does not begin with a frame."""
    for look in (_transport, _program, _adts, _mpeg_audio, _dolby, _ac4, _dts):
        found = look(first)
        if found is not None:
            return found
    return None


def _transport(first: bytes) -> Container | None:
    """Recognise MPEG-TS by the sync byte 0x47 at the start of each packet (ISO/IEC 13818-1 §2.4.3.2). Only the first
    two or three packets are checked. A packet has 188 bytes; 16 bytes of error correction may follow each packet, or a
    header of four bytes may precede each packet (Blu-ray)."""
    for begin, size, container in ((0, 188, table.TS), (0, 204, table.TS), (4, 192, table.M2TS)):
        at = range(begin, len(first), size)[:3]
        if len(at) > 1 and all(first[each] == 0x47 for each in at):
            return container
    return None


def _program(first: bytes) -> Container | None:
    """Recognise an MPEG program stream by its pack header (ISO/IEC 13818-1 §2.5.3.3, 11172-1 §2.4.3.2), or MPEG video
    by its sequence header."""
    if first.startswith(b"\0\0\x01\xb3") and len(first) > 8:
        return table.PS
    if first.startswith(b"\0\0\x01\xba") and len(first) > 4 and (first[4] & 0xC4 == 0x44 or first[4] & 0xF1 == 0x21):
        return table.PS
    return None


def _adts(first: bytes) -> Container | None:
    """Recognise ADTS by its sync word with layer 0 (ISO/IEC 13818-7 §6.2)."""
    if len(first) < 3 or first[0] != 0xFF or first[1] & 0xF6 != 0xF0 or first[2] >> 2 & 0xF > 12:
        return None
    length = None if len(first) < 6 else (first[3] & 3) << 11 | first[4] << 3 | first[5] >> 5
    return table.AAC if _goes_on(first, length, 7, 0xFFF6) else None


def _mpeg_audio(first: bytes) -> Container | None:
    """Recognise MPEG audio by its sync word, and by a version, layer, bit rate and sample rate that are not reserved
    (ISO/IEC 11172-3 §2.4.2.3)."""
    if len(first) < 4 or first[0] != 0xFF or first[1] & 0xE0 != 0xE0:
        return None
    version, layer = first[1] >> 3 & 3, 4 - (first[1] >> 1 & 3)
    bit_rate, sample_rate = first[2] >> 4, first[2] >> 2 & 3
    if version == 1 or layer == 4 or bit_rate == 15 or sample_rate == 3:
        return None
    length = None
    if bit_rate:  # a bit rate of 0 means that the frame header does not state the bit rate
        hertz = _SAMPLE_RATES[sample_rate] >> _HALVINGS[version]
        length = _mpeg_length(version == 3, layer, bit_rate, hertz, padding=first[2] >> 1 & 1)
    if not _goes_on(first, length, 24, 0xFFFE):
        return None
    return table.MP3 if layer == 3 else table.MP2


def _mpeg_length(is_mpeg1: bool, layer: int, bit_rate: int, hertz: int, padding: int) -> int:
    bits = 1000 * _KBITS[is_mpeg1, layer][bit_rate - 1]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (144 if is_mpeg1 or layer == 2 else 72) * bits // hertz + padding


def _dolby(first: bytes) -> Container | None:
    """Recognise AC-3 and E-AC-3, which have the same sync word, and tell them apart by `bsid` (ETSI TS 102 366 §4.4,
    Annex E)."""
    if first[:2] != b"\x0b\x77" or len(first) < 6:
        return None
    version = first[5] >> 3
    if version <= 10:
        return table.AC3 if first[4] >> 6 != 3 and first[4] & 0x3F < 38 else None
    length = 2 * (1 + ((first[2] & 7) << 8 | first[3]))
    return table.EAC3 if version <= 16 and _goes_on(first, length, 8, 0xFFFF) else None


def _ac4(first: bytes) -> Container | None:
    """Recognise AC-4 by the header of its sync frames (ETSI TS 103 190)."""
    if first[:2] not in (b"\xac\x40", b"\xac\x41") or len(first) < 7:
        return None
    length, header = int.from_bytes(first[2:4], "big"), 4
    if length == 0xFFFF:
        length, header = int.from_bytes(first[4:7], "big"), 7
    crc = 2 if first[1] == 0x41 else 0
    return table.AC4 if _goes_on(first, header + length + crc, 8, 0xFFFF) else None


def _dts(first: bytes) -> Container | None:
    """Recognise DTS by its sync words, which differ for 16-bit and 14-bit words and for the byte order (ETSI TS 102
    114)."""
    return table.DTS if first.startswith(_DTS_SYNCS) else None


def _goes_on(first: bytes, length: int | None, least: int, mask: int) -> bool:
    """Return whether a similar frame follows the first frame. Two frames are similar if the first two bytes of both
    have the same values in the bits that `mask` selects. `length` is the first frame's length in bytes. Returns False
    if `length` is below `least`. Returns True if `length` is None, or if `first` ends before the second frame."""
    if length is None:
        return True
    if length < least:
        return False
    if len(first) < length + 2:
        return True
    here, there = int.from_bytes(first[:2], "big"), int.from_bytes(first[length : length + 2], "big")
    return here & mask == there & mask
