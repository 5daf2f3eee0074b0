"""The containers and elementary formats: their extensions and media types, and the list of the values of the request
parameter `to`. If IANA has registered no media type for a container, the table has a common one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args


@dataclass(frozen=True, slots=True)
class Container:
    """A container or elementary format: its usual file extension and its media type."""

    ext: str
    content_type: str


MP4 = Container("mp4", "video/mp4")
M4A = Container("m4a", "audio/mp4")
M4B = Container("m4b", "audio/mp4")
MOV = Container("mov", "video/quicktime")
GP3 = Container("3gp", "video/3gpp")
GP3_AUDIO = Container("3gp", "audio/3gpp")
GP2 = Container("3g2", "video/3gpp2")
GP2_AUDIO = Container("3g2", "audio/3gpp2")
WEBM = Container("webm", "video/webm")
WEBA = Container("weba", "audio/webm")
MKV = Container("mkv", "video/x-matroska")
MKA = Container("mka", "audio/x-matroska")
TS = Container("ts", "video/mp2t")
M2TS = Container("m2ts", "video/mp2t")
PS = Container("mpg", "video/mpeg")
FLV = Container("flv", "video/x-flv")
AVI = Container("avi", "video/x-msvideo")
ASF = Container("asf", "video/x-ms-asf")
WMV = Container("wmv", "video/x-ms-wmv")
WMA = Container("wma", "audio/x-ms-wma")
RM = Container("rm", "application/vnd.rn-realmedia")
RA = Container("ra", "audio/x-pn-realaudio")
MXF = Container("mxf", "application/mxf")

MP3 = Container("mp3", "audio/mpeg")
MP2 = Container("mp2", "audio/mpeg")
AAC = Container("aac", "audio/aac")
AC3 = Container("ac3", "audio/ac3")
EAC3 = Container("eac3", "audio/eac3")
AC4 = Container("ac4", "audio/ac4")
DTS = Container("dts", "audio/vnd.dts")
OGG = Container("ogg", "audio/ogg")
OPUS = Container("opus", "audio/ogg")
OGA = Container("oga", "audio/ogg")
SPX = Container("spx", "audio/ogg")
OGV = Container("ogv", "video/ogg")
FLAC = Container("flac", "audio/flac")
WAV = Container("wav", "audio/wav")
AIFF = Container("aiff", "audio/aiff")
AIFC = Container("aifc", "audio/aiff")
CAF = Container("caf", "audio/x-caf")
AU = Container("au", "audio/basic")
AMR = Container("amr", "audio/amr")
AWB = Container("awb", "audio/amr-wb")
APE = Container("ape", "audio/x-ape")
WAVPACK = Container("wv", "audio/x-wavpack")
TTA = Container("tta", "audio/x-tta")
MUSEPACK = Container("mpc", "audio/x-musepack")
DSF = Container("dsf", "audio/x-dsf")
DFF = Container("dff", "audio/x-dff")
MIDI = Container("mid", "audio/midi")

JPEG = Container("jpg", "image/jpeg")
PNG = Container("png", "image/png")
GIF = Container("gif", "image/gif")
WEBP = Container("webp", "image/webp")
AVIF = Container("avif", "image/avif")
HEIC = Container("heic", "image/heic")
HEICS = Container("heics", "image/heic-sequence")
HEIF = Container("heif", "image/heif")
HEIFS = Container("heifs", "image/heif-sequence")
JXL = Container("jxl", "image/jxl")
JP2 = Container("jp2", "image/jp2")
BMP = Container("bmp", "image/bmp")
TIFF = Container("tiff", "image/tiff")
ICO = Container("ico", "image/vnd.microsoft.icon")

VTT = Container("vtt", "text/vtt")
UNKNOWN = Container("bin", "application/octet-stream")

ALL = (
    MP4, M4A, M4B, MOV, GP3, GP2, WEBM, WEBA, MKV, MKA, TS, M2TS, PS, FLV, AVI, ASF, WMV, WMA, RM, RA, MXF, MP3, MP2,
    AAC, AC3, EAC3, AC4, DTS, OGG, OPUS, OGA, SPX, OGV, FLAC, WAV, AIFF, AIFC, CAF, AU, AMR, AWB, APE, WAVPACK, TTA,
    MUSEPACK, DSF, DFF, MIDI, JPEG, PNG, GIF, WEBP, AVIF, HEIC, HEICS, HEIF, HEIFS, JXL, JP2, BMP, TIFF, ICO, VTT,
)  # fmt: skip
"""All containers. If several containers have the same media type, a Content-Type of that type means the first of these
containers."""

BY_EXTENSION = {container.ext: container for container in ALL} | {
    "jpeg": JPEG, "tif": TIFF, "avifs": AVIF, "m4v": MP4, "f4v": MP4, "ismv": MP4, "f4a": M4A, "m4r": M4A, "qt": MOV,
    "mpegts": TS, "mts": M2TS, "mpeg": PS, "vob": PS, "rmvb": RM, "ec3": EAC3, "aif": AIFF, "snd": AU, "wave": WAV,
    "midi": MIDI,
}  # fmt: skip

Target = Literal[
    "source", "mp4", "webm", "mkv", "ts", "m4a", "mp3", "ogg", "opus", "flac", "wav", "slideshow", "images",
]  # fmt: skip
"""The values of the request parameter `to`."""
TARGETS: tuple[str, ...] = get_args(Target)
UNAVAILABLE = frozenset({"mkv", "ts", "slideshow", "images"})
"""Values of the request parameter `to` that this version does not support. ServerPY supports each other value only for
media that already has the requested format."""

_ALIASES = {
    "application/mp4": MP4, "video/x-m4v": MP4, "audio/x-m4a": M4A, "audio/m4a": M4A, "audio/x-m4b": M4B,
    "audio/3gpp": GP3_AUDIO, "audio/3gpp2": GP2_AUDIO, "video/matroska": MKV, "audio/matroska": MKA,
    "video/mpegts": TS, "video/mp2p": PS, "video/avi": AVI, "video/msvideo": AVI, "video/vnd.avi": AVI,
    "audio/mp3": MP3, "audio/x-mp3": MP3, "audio/x-mpeg": MP3, "audio/aacp": AAC, "audio/x-aac": AAC,
    "audio/x-ac3": AC3, "audio/vnd.dolby.dd-raw": AC3, "audio/x-eac3": EAC3, "audio/ec3": EAC3,
    "application/ogg": OGG, "audio/vorbis": OGG, "audio/opus": OPUS, "audio/speex": SPX, "audio/x-flac": FLAC,
    "audio/x-wav": WAV, "audio/wave": WAV, "audio/vnd.wave": WAV, "audio/x-aiff": AIFF, "audio/x-aifc": AIFC,
    "audio/ape": APE, "audio/x-monkeys-audio": APE, "audio/wavpack": WAVPACK, "audio/tta": TTA, "audio/dsf": DSF,
    "audio/mid": MIDI, "audio/x-midi": MIDI, "audio/vnd.rn-realaudio": RA, "image/jpg": JPEG, "image/pjpeg": JPEG,
    "image/x-ms-bmp": BMP, "image/x-icon": ICO, "image/avif-sequence": AVIF,
}  # fmt: skip
_BY_TYPE = {container.content_type: container for container in reversed(ALL)} | _ALIASES


def essence_of(content_type: str | None) -> str:
    """Return the media type of a Content-Type in lower case and without parameters. Returns "" if `content_type` is
    None or empty."""
    return (content_type or "").partition(";")[0].strip().lower()


def by_type(content_type: str | None) -> Container | None:
    """Return the container that a Content-Type names. Returns None if the Content-Type is neither in the table nor a
    type of audio or video."""
    essence = essence_of(content_type)
    if essence in _BY_TYPE:
        return _BY_TYPE[essence]
    if re.fullmatch(r"(audio|video)/[\w.+-]+", essence):
        return Container("bin", essence)
    return None
