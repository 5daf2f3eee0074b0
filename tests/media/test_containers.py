"""Tests that the container format of a file is identified by the first bytes of the file, and that web pages and
documents are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy import containers
from serverpy.containers import SNIFF_BYTES, Container, enough_bytes, identify, sniff
from serverpy.containers.identify import MAX_TAG_BYTES
from serverpy.errors import NotMedia
from tests.media.short_files import element, ftyp, id3, image, ogg_page, written

TS_PACKET = b"G" + bytes(187)
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
ASF_AUDIO, ASF_VIDEO = (bytes.fromhex(f"{each}4d5bcf11a8fd00805f5c442b") for each in ("409e69f8", "c0ef19bc"))
ADTS = bytes.fromhex("fff1508002ff") + bytes(17)  # the frame has 23 bytes
MPEG_3 = b"\xff\xfb\x90\x64" + bytes(413)  # the frame has 417 bytes: 128 kbit/s, 44.1 kHz
MPEG_2 = b"\xff\xfd\xc0\x00" + bytes(830)
AC3 = b"\x0b\x77\x12\x34\x14\x40" + bytes(600)
EAC3 = b"\x0b\x77\x00\x3f\x34\x80" + bytes(122)  # the frame has 128 bytes
AC4 = b"\xac\x40\x00\x40" + bytes(64)
BMP = b"BM\x36\x03\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(40)
ICO = b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\x68\x04\0\0\x16\0\0\0" + bytes(40)


def ebml(doc_type: bytes, *segment: bytes) -> bytes:
    return element(0x1A45DFA3, element(0x4286, b"\1"), element(0x4282, doc_type)) + element(0x18538067, *segment)


def tracks(*types: int, codec: bytes = b"A_OPUS", rest: bytes = b"") -> bytes:
    entries = [
        element(0xAE, element(0xD7, b"\1"), element(0x83, bytes([each])), element(0x86, codec)) for each in types
    ]
    return element(0x1654AE6B, *entries, rest)


def asf(*types: bytes, before: int = 0) -> bytes:
    """Return an ASF header that contains an object for each stream in `types`. If `before` is not 0, an object of
    `before` bytes precedes these objects."""
    objects = [bytes(16) + struct.pack("<Q", before) + bytes(before - 24)] if before else []
    objects += [ASF_STREAM + struct.pack("<Q", 78) + each + bytes(38) for each in types]
    body = b"".join(objects)
    return ASF_HEADER + struct.pack("<QIH", 30 + len(body), len(objects), 0x0201) + body + bytes(600)


HAND_MADE: list[tuple[str, bytes, str, str]] = [
    ("isom", ftyp(b"isom", b"mp41"), "video/mp4", "mp4"),
    ("dash segment", ftyp(b"msdh", box=b"styp"), "video/mp4", "mp4"),
    ("no ftyp", b"\0\0\x02\x6cmoov" + bytes(100), "video/mp4", "mp4"),
    ("fragment", b"\0\0\0\x6cmoof" + bytes(100), "video/mp4", "mp4"),
    ("event message first", b"\0\0\0\x6cemsg" + bytes(100), "video/mp4", "mp4"),
    ("M4A", ftyp(b"M4A ", b"isom"), "audio/mp4", "m4a"),
    ("M4B", ftyp(b"M4B ", b"mp42"), "audio/mp4", "m4b"),
    ("M4V", ftyp(b"M4V ", b"isom"), "video/mp4", "mp4"),
    ("QuickTime", ftyp(b"qt  "), "video/quicktime", "mov"),
    ("old QuickTime", b"\0\0\0\x08wide\0\0\1\0mdat", "video/quicktime", "mov"),
    ("3GP", ftyp(b"3gp4", b"isom"), "video/3gpp", "3gp"),
    ("3GP, release 6, general", ftyp(b"3gg6"), "video/3gpp", "3gp"),
    ("3G2", ftyp(b"3g2a", b"isom"), "video/3gpp2", "3g2"),
    ("3G2 of KDDI", ftyp(b"KDDI", b"3g2a"), "video/3gpp2", "3g2"),
    ("AVIF", ftyp(b"avif", b"mif1", b"miaf"), "image/avif", "avif"),
    ("AVIF as HEIF", ftyp(b"mif1", b"miaf", b"avif"), "image/avif", "avif"),
    ("AVIF sequence", ftyp(b"avis", b"avif", b"msf1"), "image/avif", "avif"),
    ("AVIF sequence as HEIF", ftyp(b"msf1", b"avis", b"avif"), "image/avif", "avif"),
    ("HEIC", ftyp(b"heic", b"mif1"), "image/heic", "heic"),
    ("HEIC as HEIF", ftyp(b"mif1", b"heic"), "image/heic", "heic"),
    ("HEIC sequence", ftyp(b"hevc", b"msf1"), "image/heic-sequence", "heics"),
    ("HEIC sequence as HEIF", ftyp(b"msf1", b"hevc", b"heic"), "image/heic-sequence", "heics"),
    ("HEIF of another codec", ftyp(b"mif1", b"miaf"), "image/heif", "heif"),
    ("HEIF sequence", ftyp(b"msf1", b"iso8"), "image/heif-sequence", "heifs"),
    ("JPEG XL in boxes", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "image/jxl", "jxl"),
    ("JPEG XL, bare", b"\xff\x0a\xfa\x1f\1\x91", "image/jxl", "jxl"),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2", "jp2"),
    ("WebM", ebml(b"webm", tracks(1, 2)), "video/webm", "webm"),
    ("WebM, audio only", ebml(b"webm", element(0xEC, bytes(50)), tracks(2)), "audio/webm", "weba"),
    ("WebM, tracks too far away", ebml(b"webm", element(0xEC, bytes(900)), tracks(2)), "video/webm", "webm"),
    ("WebM, padded", ebml(b"webm\0\0"), "video/webm", "webm"),
    ("Matroska", ebml(b"matroska", tracks(2, 1)), "video/x-matroska", "mkv"),
    ("Matroska, audio only", ebml(b"matroska", tracks(2, 2)), "audio/x-matroska", "mka"),
    ("Matroska, more tracks", ebml(b"matroska", tracks(2, rest=element(0xAE, bytes(900)))), "video/x-matroska", "mkv"),
    ("TS", TS_PACKET * 3, "video/mp2t", "ts"),
    ("TS, two packets", TS_PACKET * 2, "video/mp2t", "ts"),
    ("TS with error correction", (TS_PACKET + bytes(16)) * 3, "video/mp2t", "ts"),
    ("TS of Blu-ray", (b"\1\2\3\4" + TS_PACKET) * 3, "video/mp2t", "m2ts"),
    ("PS, MPEG-2", b"\0\0\x01\xba\x44\0\4\0\4\1" + bytes(20), "video/mpeg", "mpg"),
    ("PS, MPEG-1", b"\0\0\x01\xba\x21\0\1\0\1" + bytes(20), "video/mpeg", "mpg"),
    ("MPEG video", b"\0\0\x01\xb3\x14\0\xf0\x13\xff\xff\xe0" + bytes(20), "video/mpeg", "mpg"),
    ("FLV", b"FLV\x01\5\0\0\0\x09", "video/x-flv", "flv"),
    ("AVI", b"RIFF\0\0\1\0AVI LIST", "video/x-msvideo", "avi"),
    ("ASF with video", asf(ASF_AUDIO, ASF_VIDEO), "video/x-ms-wmv", "wmv"),
    ("ASF with audio only", asf(ASF_AUDIO), "audio/x-ms-wma", "wma"),
    ("ASF, streams too far away", asf(ASF_AUDIO, before=900), "video/x-ms-asf", "asf"),
    ("RealMedia", b".RMF\0\0\0\x12\0\1", "application/vnd.rn-realmedia", "rm"),
    ("RealAudio", b".ra\xfd\0\4", "audio/x-pn-realaudio", "ra"),
    ("MXF", bytes.fromhex("060e2b34020501010d0102010102"), "application/mxf", "mxf"),
    ("ADTS", ADTS * 10, "audio/aac", "aac"),
    ("MPEG layer III", MPEG_3 * 2, "audio/mpeg", "mp3"),
    ("MPEG-2 layer III", (b"\xff\xf3\x40\xc4" + bytes(100)) * 3, "audio/mpeg", "mp3"),
    ("MPEG layer II", MPEG_2, "audio/mpeg", "mp2"),
    ("AC-3", AC3, "audio/ac3", "ac3"),
    ("E-AC-3", EAC3 * 4, "audio/eac3", "eac3"),
    ("AC-4", AC4 * 5, "audio/ac4", "ac4"),
    ("AC-4 with CRC", (b"\xac\x41\xff\xff\0\1\0" + bytes(258)) * 2, "audio/ac4", "ac4"),
    ("DTS", b"\x7f\xfe\x80\x01\xfc\x3c" + bytes(20), "audio/vnd.dts", "dts"),
    ("Ogg Vorbis", ogg_page(b"\x01vorbis" + bytes(23)), "audio/ogg", "ogg"),
    ("Ogg Opus", ogg_page(b"OpusHead\1\2" + bytes(9)), "audio/ogg", "opus"),
    ("Ogg FLAC", ogg_page(b"\x7fFLAC\1\0" + bytes(44)), "audio/ogg", "oga"),
    ("Ogg Speex", ogg_page(b"Speex   1.2" + bytes(69)), "audio/ogg", "spx"),
    ("Ogg Theora", ogg_page(b"\x80theora\3\2" + bytes(33)), "video/ogg", "ogv"),
    ("Ogg Theora after Vorbis", ogg_page(b"\x01vorbis" + bytes(23)) + ogg_page(b"\x80theora"), "video/ogg", "ogv"),
    ("Ogg Skeleton before Opus", ogg_page(b"fishead\0" + bytes(56)) + ogg_page(b"OpusHead"), "audio/ogg", "opus"),
    ("Ogg, other page later", ogg_page(b"OpusHead") + ogg_page(b"\x80theora", begins=False), "audio/ogg", "opus"),
    ("FLAC", b"fLaC\0\0\0\x22", "audio/flac", "flac"),
    ("WAV", b"RIFF\0\0\1\0WAVEfmt ", "audio/wav", "wav"),
    ("WAV of more than 4 GB", b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav", "wav"),
    ("AIFF", b"FORM\0\1\0\0AIFFCOMM", "audio/aiff", "aiff"),
    ("AIFF-C", b"FORM\0\1\0\0AIFCFVER", "audio/aiff", "aifc"),
    ("CAF", b"caff\0\1\0\0desc", "audio/x-caf", "caf"),
    ("AU", b".snd\0\0\0\x18", "audio/basic", "au"),
    ("AMR", b"#!AMR\n\x3c\x91", "audio/amr", "amr"),
    ("AMR, wide band", b"#!AMR-WB\n\x44\x91", "audio/amr-wb", "awb"),
    ("AMR, wide band, multichannel", b"#!AMR-WB_MC1.0\n\0\0\0\2", "audio/amr-wb", "awb"),
    ("APE", b"MAC \x96\x0f\0\0", "audio/x-ape", "ape"),
    ("WavPack", b"wvpk\x10\0\0\0\x10\4", "audio/x-wavpack", "wv"),
    ("TTA", b"TTA1\1\0\1\0\x10\0", "audio/x-tta", "tta"),
    ("Musepack 7", b"MP+\x17\0\0", "audio/x-musepack", "mpc"),
    ("Musepack 8", b"MPCKSH\x0f", "audio/x-musepack", "mpc"),
    ("DSF", b"DSD \x1c\0\0\0\0\0\0\0\0\0", "audio/x-dsf", "dsf"),
    ("DSDIFF", b"FRM8" + bytes(8) + b"DSD FVER", "audio/x-dff", "dff"),
    ("MIDI", b"MThd\0\0\0\6\0\1\0\2", "audio/midi", "mid"),
    ("MIDI in RIFF", b"RIFF\0\0\1\0RMIDdata", "audio/midi", "mid"),
    ("JPEG", b"\xff\xd8\xff\xe0", "image/jpeg", "jpg"),
    ("WebP", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", "webp"),
    ("BMP", BMP, "image/bmp", "bmp"),
    ("TIFF, little-endian", b"II*\0\x08\0\0\0", "image/tiff", "tiff"),
    ("TIFF, big-endian", b"MM\0*\0\0\0\x08", "image/tiff", "tiff"),
    ("ICO", ICO, "image/vnd.microsoft.icon", "ico"),
    ("WebVTT", b"WEBVTT\n\n", "text/vtt", "vtt"),
    ("WebVTT with a byte order mark", b"\xef\xbb\xbfWEBVTT - a title" + b"\n" * 90, "text/vtt", "vtt"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "content_type", "ext"), [row[1:] for row in HAND_MADE], ids=[row[0] for row in HAND_MADE]
)
def test_the_first_bytes_of_a_file_take_precedence_over_its_content_type_and_its_extension(
    first: bytes, content_type: str, ext: str
) -> None:
    assert identify(first, "video/x-flv", "png") == Container(ext, content_type)


MADE = [
    ("mp4", ("libx264", "aac"), "video/mp4", "mp4"),
    ("ipod", ("aac",), "audio/mp4", "m4a"),
    ("mov", ("libx264", "aac"), "video/quicktime", "mov"),
    ("3gp", ("h263",), "video/3gpp", "3gp"),
    ("3g2", ("mpeg4",), "video/3gpp2", "3g2"),
    ("ismv", ("libx264",), "video/mp4", "mp4"),
    ("webm", ("libvpx", "libopus"), "video/webm", "webm"),
    ("webm", ("libopus",), "audio/webm", "weba"),
    ("matroska", ("aac", "libx264"), "video/x-matroska", "mkv"),
    ("matroska", ("flac",), "audio/x-matroska", "mka"),
    ("mpegts", ("libx264", "aac"), "video/mp2t", "ts"),
    ("mpeg", ("mpeg2video", "mp2"), "video/mpeg", "mpg"),
    ("vob", ("mpeg2video",), "video/mpeg", "mpg"),
    ("avi", ("mpeg4", "libmp3lame"), "video/x-msvideo", "avi"),
    ("asf", ("wmv2",), "video/x-ms-wmv", "wmv"),
    ("asf", ("wmav2",), "audio/x-ms-wma", "wma"),
    ("flv", ("flv",), "video/x-flv", "flv"),
    ("rm", ("rv10",), "application/vnd.rn-realmedia", "rm"),
    ("mxf", ("mpeg2video", "pcm_s16le"), "application/mxf", "mxf"),
    ("adts", ("aac",), "audio/aac", "aac"),
    ("mp3", ("libmp3lame",), "audio/mpeg", "mp3"),
    ("mp2", ("mp2",), "audio/mpeg", "mp2"),
    ("ac3", ("ac3",), "audio/ac3", "ac3"),
    ("eac3", ("eac3",), "audio/eac3", "eac3"),
    ("flac", ("flac",), "audio/flac", "flac"),
    ("ogg", ("libopus",), "audio/ogg", "opus"),
    ("ogg", ("flac",), "audio/ogg", "oga"),
    ("wav", ("pcm_s16le",), "audio/wav", "wav"),
    ("aiff", ("pcm_s16be",), "audio/aiff", "aiff"),
    ("caf", ("pcm_s16be",), "audio/x-caf", "caf"),
    ("au", ("pcm_s16be",), "audio/basic", "au"),
    ("wv", ("wavpack",), "audio/x-wavpack", "wv"),
    ("tta", ("tta",), "audio/x-tta", "tta"),
    ("gif", ("gif",), "image/gif", "gif"),
    ("ico", ("bmp",), "image/vnd.microsoft.icon", "ico"),
]


@pytest.mark.parametrize(("muxer", "codecs", "content_type", "ext"), MADE, ids=[f"{row[0]} {row[1]}" for row in MADE])
def test_a_file_written_by_a_muxer_is_recognised_by_its_first_bytes(
    muxer: str, codecs: tuple[str, ...], content_type: str, ext: str
) -> None:
    rate = 44_100 if "wmav2" in codecs else 48_000
    first = written(muxer, *codecs, rate=rate, seconds=0.04 if muxer == "ico" else 0.4)[:SNIFF_BYTES]
    assert identify(first, "application/octet-stream", None) == Container(ext, content_type)


def test_amr_audio_and_encoded_images_are_recognised_by_their_first_bytes() -> None:
    assert identify(written("amr", "libopencore_amrnb", rate=8000)).content_type == "audio/amr"
    for codec in ("bmp", "tiff", "png", "gif"):
        assert identify(image(codec)).content_type == f"image/{codec}"
    assert identify(image("mjpeg")).content_type == "image/jpeg"
    assert identify(image("jpeg2000")).content_type == "image/jp2"


DECLARED = [
    # columns: first bytes, declared type, declared extension, whether the track has only audio, expected type, expected
    # extension
    (ftyp(b"isom"), None, "m4a", None, "audio/mp4", "m4a"),
    (ftyp(b"isom"), None, "m4b", None, "audio/mp4", "m4b"),
    (ftyp(b"isom"), "audio/mp4", "mp4", None, "audio/mp4", "m4a"),
    (ftyp(b"isom"), "audio/x-m4a; x=y", "unknown_video", None, "audio/mp4", "m4a"),
    (ftyp(b"isom"), "audio/mp4", "mp4", False, "video/mp4", "mp4"),
    (ftyp(b"dash"), "video/mp4", "mp4", True, "audio/mp4", "m4a"),
    (ftyp(b"isom"), "video/mp4", "mp4", False, "video/mp4", "mp4"),
    (ftyp(b"isom"), "video/quicktime", "mov", None, "video/mp4", "mp4"),
    (ftyp(b"isom"), "video/3gpp", "3gp", None, "video/3gpp", "3gp"),
    (ftyp(b"M4A "), "video/mp4", "mp4", None, "audio/mp4", "m4a"),
    (ftyp(b"3gp4"), None, "3gp", True, "audio/3gpp", "3gp"),
    (ftyp(b"3g2a"), "audio/3gpp2", "3g2", None, "audio/3gpp2", "3g2"),
    (ebml(b"webm"), None, "webm", True, "audio/webm", "weba"),
    (ebml(b"webm"), "audio/webm", "webm", None, "audio/webm", "weba"),
    (ebml(b"webm", tracks(1)), "audio/webm", "weba", None, "video/webm", "webm"),
    (ebml(b"matroska"), None, "mka", None, "audio/x-matroska", "mka"),
    (ebml(b"matroska"), "application/octet-stream", "mkv", True, "audio/x-matroska", "mka"),
    (asf(before=900), None, "wma", None, "audio/x-ms-wma", "wma"),
    (asf(before=900), "video/x-ms-wmv", "asf", None, "video/x-ms-wmv", "wmv"),
    (asf(before=900), None, "asf", True, "audio/x-ms-wma", "wma"),
    (asf(before=900), None, "asf", False, "video/x-ms-wmv", "wmv"),
    (b".RMF\0\0\0\x12", None, "rm", True, "audio/x-pn-realaudio", "ra"),
    (b"OggS\0\2", None, "opus", None, "audio/ogg", "opus"),
    (b"OggS\0\2", "video/ogg", None, None, "video/ogg", "ogv"),
    (TS_PACKET * 3, None, "mp4", True, "video/mp2t", "ts"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "declared_type", "declared_ext", "is_audio", "content_type", "ext"), DECLARED)
def test_the_declared_type_decides_if_the_first_bytes_of_a_file_fit_several_formats(
    first: bytes,
    declared_type: str | None,
    declared_ext: str | None,
    is_audio: bool | None,
    content_type: str,
    ext: str,
) -> None:
    assert identify(first, declared_type, declared_ext, is_audio=is_audio) == Container(ext, content_type)


# ID3 tags


BEHIND = [
    (ADTS * 20, "audio/aac", "aac"),
    (MPEG_3 * 2, "audio/mpeg", "mp3"),
    (AC3, "audio/ac3", "ac3"),
    (EAC3 * 4, "audio/eac3", "eac3"),
    (b"fLaC\0\0\0\x22" + bytes(40), "audio/flac", "flac"),
    (b"MAC \x96\x0f\0\0" + bytes(80), "audio/x-ape", "ape"),
    (b"wvpk\x10\0\0\0\x10\4" + bytes(80), "audio/x-wavpack", "wv"),
    (b"\1\2\3\4" * 100, "audio/mpeg", "mp3"),
]
TAGS = {
    "none": b"",
    "time stamp": id3(),
    "two": id3() + id3(30),
    "with a footer": id3(100, footer=True),
    "with padding": id3() + bytes(60),
    "as long as the sniffed bytes": id3(SNIFF_BYTES - 20),
    "long": id3(20_000),
    "long and two": id3(9000) + id3(9000),
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("behind", "content_type", "ext"), BEHIND)
def test_a_file_with_id3_tags_is_identified_by_the_bytes_after_the_tags(
    tag: str, behind: bytes, content_type: str, ext: str
) -> None:
    if not TAGS[tag] and behind.startswith(b"\1"):
        return
    file = TAGS[tag] + behind
    enough = 0
    while (more := enough_bytes(file[:enough])) > enough:
        enough = more
    assert enough <= 32 * 1024
    assert identify(file[:enough], "video/mp4", "mp4") == Container(ext, content_type)


@pytest.mark.parametrize(
    ("declared_type", "ext", "expected"),
    [
        ("audio/aac", "mp3", "audio/aac"),
        ("application/octet-stream", "flac", "audio/flac"),
        ("audio/mpeg", "aac", "audio/mpeg"),
        ("video/mp4", "mp4", "audio/mpeg"),
        (None, None, "audio/mpeg"),
    ],
)
def test_a_file_whose_id3_tag_is_too_long_is_identified_by_its_declared_type(
    declared_type: str | None, ext: str | None, expected: str
) -> None:
    first = id3(MAX_TAG_BYTES)[:SNIFF_BYTES]
    assert enough_bytes(first) == SNIFF_BYTES
    assert identify(first, declared_type, ext).content_type == expected


# Bytes that are not media, and unknown bytes


@pytest.mark.parametrize(
    ("first", "content_type"),
    [
        (b"<!DOCTYPE html><html>", "video/mp4"),
        (b'{"error": "no"}', "application/octet-stream"),
        (b"Not here", None),
        (b"\x00\x01\x02", "text/html; charset=utf-8"),
        (b"%PDF-1.7\n\x00\x01", "application/pdf"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "video/mp4"),
        ("seite über etwas".encode(), "audio/mpeg"),
        (b"\xff\xfe" + '{"error": "no"}'.encode("utf-16-le"), "audio/mpeg"),
        ("\ufeff<html>".encode("utf-16-be"), "video/mp4"),
        (b"MAC addresses are not allowed here; see the page on how to find the address.", "audio/x-ape"),
        (b"The free encyclopedia is not available in your country; please go elsewhere.", "video/mp4"),
        (b"ID3 tags are not supported by this server. Please remove them and try again.", "audio/mpeg"),
        (b"#EXTM3U\n#EXTINF:2,\n0.ts\n", "video/mp2t"),
    ],
)
def test_web_pages_and_documents_and_text_are_refused_as_not_media(first: bytes, content_type: str | None) -> None:
    with pytest.raises(NotMedia):
        identify(first, content_type, "mp4")


@pytest.mark.parametrize("declared", ["text/plain", "text/html", "application/json", "application/octet-stream"])
def test_the_first_bytes_of_media_take_precedence_over_a_declared_document_type(declared: str) -> None:
    for _name, first, content_type, ext in HAND_MADE:
        assert identify(first, declared, None) == Container(ext, content_type)


def test_a_file_with_unknown_first_bytes_is_identified_by_its_content_type_or_else_its_extension() -> None:
    unknown = b"\x00\x01\x02\x03\x04\x05\x06\x07\x08"
    assert identify(unknown, "video/webm; codecs=vp9", "mp4") is containers.WEBM
    assert identify(unknown, "video/x-made-up", "mp4") == Container("bin", "video/x-made-up")
    assert identify(unknown, "application/octet-stream", "mp4") is containers.MP4
    assert identify(unknown, "text/plain", "mp4") is containers.MP4
    assert identify(unknown, None, "unknown_video") is containers.UNKNOWN


@pytest.mark.parametrize(
    "first",
    [
        b"\xff\xf1\x3c\x80\0\x1f\xfc",  # the sampling frequency index has a reserved value
        ADTS + b"\1\2\3\4" * 10,
        b"\xff\xfb\xf0\x64" + bytes(500),
        MPEG_3 + b"\1" * 95,
        b"\x0b\x77\x12\x34\xe6\x40" + bytes(500),
        b"BM\x36\x03\0\0\0\0\0\0\x36\0\0\0\x29\0\0\0",
        b"\0\0\x01\0\0\0\x10\x10\0\0\x01\0\x20\0\x68\x04\0\0\x16\0\0\0",
        b"\xac\x40\x00\x40" + bytes(500),
        b"\1\2\3\4" + b"G" + bytes(250),
        b"\x1aE\xdf\xa3" + bytes(100),
        b"\x1aE\xdf\xa3\x9f",
        ASF_HEADER[:15] + bytes(100),
    ],
)
def test_bytes_that_only_resemble_the_header_of_a_format_are_not_recognised(first: bytes) -> None:
    assert sniff(first) is None


@given(st.binary(max_size=600), st.sampled_from([row[1][:40] for row in HAND_MADE] + [id3()]))
def test_detecting_the_format_of_random_bytes_returns_a_container_or_none(first: bytes, signature: bytes) -> None:
    for each in (first, signature + first):
        container = sniff(each)
        assert container is None or "/" in container.content_type
        assert SNIFF_BYTES <= enough_bytes(each) <= 32 * 1024
