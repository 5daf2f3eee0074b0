"""The recognition of containers by the first bytes of a file. The functions are pure, and accept any number of first
bytes.

The functions look for signatures of several bytes first, then for valid headers, and for frames of elementary streams
(`frames.py`) last, because the few sync bits of a frame may occur by chance in another container.
"""

from __future__ import annotations

import re
import struct

from serverpy.containers import frames, matroska, table
from serverpy.containers.brands import by_brand
from serverpy.containers.table import Container

_SIGNATURES: tuple[tuple[bytes, Container], ...] = (
    (b"fLaC", table.FLAC),
    (b"FLV\x01", table.FLV),
    (b"\xff\xd8\xff", table.JPEG),
    (b"\x89PNG\r\n\x1a\n", table.PNG),
    (b"GIF87a", table.GIF),
    (b"GIF89a", table.GIF),
    (b"\xff\x0a", table.JXL),  # ISO/IEC 18181-1: a JPEG XL codestream without boxes
    (b"\0\0\0\x0cJXL \r\n\x87\n", table.JXL),  # ISO/IEC 18181-2: a JPEG XL codestream in boxes
    (b"\0\0\0\x0cjP  \r\n\x87\n", table.JP2),
    (b"II*\0", table.TIFF),
    (b"MM\0*", table.TIFF),
    (b"II+\0", table.TIFF),  # BigTIFF, little-endian
    (b"MM\0+", table.TIFF),
    (b"WEBVTT", table.VTT),
    (b"\xef\xbb\xbfWEBVTT", table.VTT),
    (b"#!AMR-WB", table.AWB),  # AMR files: RFC 4867 §5
    (b"#!AMR", table.AMR),
    (b"caff\0\x01", table.CAF),
    (b".snd\0\0", table.AU),
    (b"MAC ", table.APE),
    (b"wvpk", table.WAVPACK),
    (b"TTA1", table.TTA),
    (b"TTA2", table.TTA),
    (b"MPCK", table.MUSEPACK),
    (b"MP+", table.MUSEPACK),
    (b"DSD \x1c\0\0\0\0\0\0\0", table.DSF),
    (b"MThd\0\0\0\x06", table.MIDI),
    (b".ra\xfd", table.RA),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", table.MXF),  # key of an MXF partition pack: RFC 4539
    (b"DTSHDHDR", table.DTS),
)
_TELLING_BYTES = 64
"""Minimum number of known bytes for the check whether a file that begins with a signature of letters ("MAC ") is text.
Fewer bytes of a media file may look like text by chance."""
_CHUNKS: dict[tuple[bytes, bytes], Container] = {
    (b"RIFF", b"WAVE"): table.WAV,
    (b"RIFX", b"WAVE"): table.WAV,
    (b"RF64", b"WAVE"): table.WAV,
    (b"BW64", b"WAVE"): table.WAV,
    (b"RIFF", b"AVI "): table.AVI,
    (b"RIFF", b"WEBP"): table.WEBP,
    (b"RIFF", b"RMID"): table.MIDI,
    (b"FORM", b"AIFF"): table.AIFF,
    (b"FORM", b"AIFC"): table.AIFC,
}
"""Maps the ID of the first chunk, and the form type that follows the size of that chunk, to a container that consists
of chunks (RIFF, IFF)."""


def found(first: bytes) -> tuple[Container, bool] | None:
    """Return the container of a file that begins with `first`, and whether the container is certain. If it is not
    certain, the Content-Type or the extension may name a more specific container, for example one with only audio.
    Returns None if the bytes identify no container."""
    certain = _by_signature(first)
    if certain is not None:
        return certain, True
    # UTF-16 text is no container: exclude it here, because its byte order mark resembles the sync word of MPEG audio
    if _UTF16.match(first):
        return None
    if first.startswith(b".RMF\0"):
        return table.RM, False
    for look in (by_brand, matroska.look, _ogg, _asf):
        result = look(first)
        if result is not None:
            return result
    certain = _bmp_or_ico(first) or frames.elementary(first)
    return None if certain is None else (certain, True)


def _by_signature(first: bytes) -> Container | None:
    for signature, container in _SIGNATURES:
        if first.startswith(signature):
            is_only_text = container != table.VTT and len(first) >= _TELLING_BYTES and is_text(first)
            return None if is_only_text else container
    if first[:4] == b"FRM8" and first[12:16] == b"DSD ":
        return table.DFF
    return _CHUNKS.get((first[:4], first[8:12]))


_OGG_AUDIO = ((b"OpusHead", table.OPUS), (b"\x01vorbis", table.OGG), (b"\x7fFLAC", table.OGA), (b"Speex   ", table.SPX))
_OGG_VIDEO = (b"\x80theora", b"BBCD\0", b"\x80daala", b"OVP80", b"\x01video")


def _ogg(first: bytes) -> tuple[Container, bool] | None:
    """Recognise Ogg, and choose the container by the codecs on the first pages, on which each logical stream begins
    (RFC 3533 §4)."""
    if not first.startswith(b"OggS"):
        return None
    audio = None
    for packet in _ogg_beginnings(first):
        if packet.startswith(_OGG_VIDEO):
            return table.OGV, True
        audio = audio or next((container for codec, container in _OGG_AUDIO if packet.startswith(codec)), None)
    return (table.OGG, False) if audio is None else (audio, True)


def _ogg_beginnings(first: bytes) -> list[bytes]:
    packets, at = [], 0
    while first[at : at + 4] == b"OggS" and len(first) > at + 27 and first[at + 5] & 2:
        body = at + 27 + first[at + 26]
        packets.append(first[body : body + 16])
        at = body + sum(first[at + 27 : body])
    return packets


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def _asf(first: bytes) -> tuple[Container, bool] | None:
    """Recognise ASF, and choose the container by the types of the streams (ASF §3.3). The types are unknown if the
    objects that contain them lie beyond `first`."""
    if not first.startswith(_ASF_HEADER):
        return None
    end, at, has_audio = int.from_bytes(first[16:24], "little"), 30, False
    while at + 40 <= min(len(first), end):
        if first[at : at + 16] == _ASF_STREAM:
            if first[at + 24 : at + 40] == _ASF_VIDEO:
                return table.WMV, True
            has_audio = has_audio or first[at + 24 : at + 40] == _ASF_AUDIO
        at += max(24, int.from_bytes(first[at + 16 : at + 24], "little"))
    return (table.WMA, True) if has_audio and end <= at else (table.ASF, False)


def _bmp_or_ico(first: bytes) -> Container | None:
    """Recognise BMP by the size of the info header, which must be one of the defined sizes. Recognise ICO by the number
    of images, which must be 1 to 64, and by the offset of the first image, which must not lie within the directory."""
    if first[:2] == b"BM" and len(first) >= 18 and first[6:10] == bytes(4):
        return table.BMP if first[14] in (12, 40, 52, 56, 64, 108, 124) and first[15:18] == bytes(3) else None
    if first[:4] == b"\0\0\x01\0" and len(first) >= 22 and first[9] == 0:
        count, offset = struct.unpack_from("<H", first, 4)[0], struct.unpack_from("<I", first, 18)[0]
        return table.ICO if 1 <= count <= 64 and offset >= 6 + 16 * count else None
    return None


_NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""Matches a binary data byte (WHATWG MIME Sniffing §3)."""
_UTF16 = re.compile(rb"(?:\xff\xfe(?:[\t\n\r\x20-\x7e]\0){2}|\xfe\xff(?:\0[\t\n\r\x20-\x7e]){2})")


def is_text(first: bytes) -> bool:
    """Return whether `first` is markup, JSON or plain text: whether it contains no binary data byte. Text in UTF-16 is
    recognised by its byte order mark and two ASCII characters after that mark."""
    return bool(first) and (_UTF16.match(first) is not None or not _NOT_TEXT.search(first))
