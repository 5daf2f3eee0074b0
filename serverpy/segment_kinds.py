"""The identification of a segment's format by its first bytes, and the check whether all segments of a stream have the
same format. The functions are pure. Media servers sometimes respond to a request for a segment with a web page or an
image and status 200 (PlexIPTV#38). The bytes of such a response must not become part of the media.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from serverpy.errors import NotMedia, UpstreamFailed

JUDGED_BYTES = 1024
"""Number of first bytes of a segment that suffice to identify its format: three packets of MPEG-TS, and the bytes that
some packagers put before them."""
INITIAL_BYTES = 32 * 1024
"""Number of first bytes of an initialization section that suffice to find its codecs."""


class Kind(Enum):
    """The formats of segments (RFC 8216 §3; WebM for DASH). Error messages contain the values."""

    TS = "MPEG-TS"
    ISO = "MP4"
    AUDIO = "packed audio"
    VTT = "WebVTT"
    WEBM = "WebM"
    OTHER = "unknown"


class WrongKind(UpstreamFailed):
    """Error: the format of a segment differs from that of the earlier segments. If the segment is requested again, the
    media server may send the right segment."""


class CodecChange(UpstreamFailed):
    """Error: an initialization section needs other decoders than the previous initialization section. The decoders
    cannot change within a single file."""


class Judge:
    """The check of the segments of one stream. The check remembers the format and the codecs of the earlier segments.
    If `strict` is true, a segment of unknown format after segments of a known format is an error. For DASH, `strict` is
    false, because some segment lists divide a file at arbitrary bytes."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._kind: Kind | None = None
        self._codecs: frozenset[bytes] = frozenset()

    def check(self, first: bytes, *, encrypted: bool = False, initial: bool = False) -> None:
        """Check a segment that begins with `first` after decryption, and remember its format and codecs. `encrypted`
        states whether the segment was encrypted, and `initial` whether it is an initialization section. Raises
        `NotMedia` if `first` is text or markup, `WrongKind` if the format differs from that of the earlier segments,
        and `CodecChange` if the codecs differ."""
        found = kind_of(first)
        if found is Kind.OTHER and encrypted:
            raise WrongKind("An encrypted segment of the media cannot be decrypted with its key.")
        if self._kind is not None and not self._fits(found, self._kind):
            raise WrongKind(f"A segment of the media is not {self._kind.value}, although the segments before it are.")
        if initial:
            codecs = codecs_of(first)
            if self._codecs and codecs and codecs != self._codecs:
                raise CodecChange(
                    "The media changes its codecs (EXT-X-MAP or a DASH period), which one file cannot express."
                )
            self._codecs = codecs or self._codecs
        self._kind = self._kind or found

    def _fits(self, found: Kind, known: Kind) -> bool:
        return found is known or (not self._strict and found in _WEAK)


_WEAK = (Kind.OTHER, Kind.AUDIO)
"""Formats that arbitrary bytes from the middle of a file may seem to have. For example, the sync word of packed audio
has only 11 bits, so it may occur by chance."""


def kind_of(first: bytes) -> Kind:
    """Return the format of a segment that begins with `first`. Raises `NotMedia` if `first` is text or markup, and
    `WrongKind` if `first` is an image."""
    for test, kind in _SIGNS:
        if test(first):
            return kind
    if not _NOT_TEXT.search(first):
        raise NotMedia("The media server returned a page or document instead of a segment.")
    if _is_ts(first[:JUDGED_BYTES]):
        return Kind.TS
    if _is_image(first):
        raise WrongKind("The media server returned an image instead of a segment.")
    return Kind.OTHER


def refuse_markup(first: bytes) -> None:
    """Raise `NotMedia` if `first`, the first bytes of an encrypted segment, are a web page or JSON."""
    if (
        len(first) >= _CERTAIN_BYTES
        and first.lstrip()[:1] in (b"<", b"{", b"[")
        and not _NOT_TEXT.search(first, 0, JUDGED_BYTES)
    ):
        raise NotMedia("The media server returned a page or document instead of a segment.")


def codecs_of(initial: bytes) -> frozenset[bytes]:
    """Return the types of the sample entries (ISO/IEC 14496-12 §8.5.2) in an MP4 initialization section, for example
    `avc1` and `mp4a`. Returns an empty set if `initial`, the first bytes of the section, contains no sample entry."""
    return frozenset(_sample_entries(initial, 0, len(initial)))


_PATH = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
_STSD_HEAD = 8
"""Number of bytes before the first sample entry in an stsd box: the version, the flags and the number of entries."""


def _sample_entries(data: bytes, begin: int, end: int) -> list[bytes]:
    found: list[bytes] = []
    while begin + 8 <= end:
        size, kind = int.from_bytes(data[begin : begin + 4], "big"), data[begin + 4 : begin + 8]
        box_end = min(begin + size, end)
        if size < 8:
            break
        if kind in _PATH:
            found += _sample_entries(data, begin + 8, box_end)
        elif kind == b"stsd":
            found += _kinds_of_boxes(data, begin + 8 + _STSD_HEAD, box_end)
        begin = box_end
    return found


def _kinds_of_boxes(data: bytes, begin: int, end: int) -> list[bytes]:
    found = []
    while begin + 8 <= end and (size := int.from_bytes(data[begin : begin + 4], "big")) >= 8:
        found.append(data[begin + 4 : begin + 8])
        begin += size
    return found


def _is_ts(first: bytes) -> bool:
    """Recognise MPEG-TS by the sync byte at the beginning of at least three packets (ISO/IEC 13818-1 §2.4.3.2), before
    each of which a timestamp may stand, and after each of which parity bytes may stand. Some packagers put other bytes
    before the first packet; players skip these bytes. A segment of one or two packets must begin with the sync byte. A
    GIF image is excluded, because its first byte equals the sync byte."""
    if first.startswith(b"GIF8"):
        return False
    at = first.find(0x47)
    while at >= 0:
        if any(_is_synchronous(first[at::size]) for size in (188, 192, 204)):
            return True
        at = first.find(0x47, at + 1)
    return first[:1] == b"\x47"


def _is_synchronous(heads: bytes) -> bool:
    return len(heads) > 2 and heads.count(0x47) == len(heads)


def _is_image(first: bytes) -> bool:
    return first.startswith(_IMAGES) or (first[:4] == b"RIFF" and first[8:12] == b"WEBP")


def _is_box(first: bytes) -> bool:
    """Recognise an ISO BMFF box (ISO/IEC 14496-12 §4.2) by a known box type, or by an unknown type of four letters,
    digits or spaces with a size below 16 MiB."""
    kind = first[4:8]
    return kind in _BOXES or (first[:1] == b"\0" and first[:4] != bytes(4) and _FOURCC.fullmatch(kind) is not None)


def _is_packed_audio(first: bytes) -> bool:
    """Recognise ADTS, MPEG audio, AC-3, E-AC-3 and AC-4 by their sync words, or by the ID3 tag with which packed audio
    begins (RFC 8216 §3.4)."""
    if first.startswith((b"ID3", b"\x0b\x77", b"\xac\x40", b"\xac\x41")):
        return True
    return len(first) > 3 and first[0] == 0xFF and (_is_adts(first) or _is_mpeg_audio(first))


def _is_adts(first: bytes) -> bool:
    """Recognise ADTS by the rest of the sync word, by layer 0 and by a sample rate that is not reserved (ISO/IEC
    13818-7 §6.2). The caller has checked the first byte of the sync word."""
    return first[1] & 0xF6 == 0xF0 and first[2] >> 2 & 0xF < 13


def _is_mpeg_audio(first: bytes) -> bool:
    """Recognise MPEG audio by the rest of the sync word, and by a version, layer, bit rate and sample rate that are not
    reserved (ISO/IEC 11172-3 §2.4.2.3). The caller has checked the first byte of the sync word."""
    version, layer = first[1] >> 3 & 3, first[1] >> 1 & 3
    return first[1] >= 0xE0 and version != 1 and layer != 0 and first[2] >> 4 != 15 and first[2] >> 2 & 3 != 3


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda first: first.startswith(prefixes)


_CERTAIN_BYTES = 64
"""Minimum length, in bytes, of an encrypted segment that may be refused as markup. A shorter encrypted segment may look
like text by chance."""
_BOXES = frozenset(
    (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"uuid")
)
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
"""The signatures of PNG, JPEG and GIF."""
_FOURCC = re.compile(rb"[A-Za-z0-9 ]{4}")
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_SIGNS: tuple[tuple[Callable[[bytes], bool], Kind], ...] = (
    (_starts(b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75", b"\x18\x53\x80\x67", b"\x1c\x53\xbb\x6b"), Kind.WEBM),
    (_starts(b"WEBVTT", b"\xef\xbb\xbfWEBVTT"), Kind.VTT),
    (_is_box, Kind.ISO),
    (_is_packed_audio, Kind.AUDIO),
)
"""Tests of the first bytes of a segment, in the order in which they are applied. Each test is paired with the format
that it identifies. The prefixes of WebM are the IDs of the EBML header, a cluster, a segment and cues (RFC 8794, RFC
9559)."""
