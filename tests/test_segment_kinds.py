"""Tests of how the format of a segment is identified by its first bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import NotMedia
from serverpy.segment_kinds import CodecChange, Judge, Kind, WrongKind, codecs_of, kind_of
from tests.streaming.segments.test_segmented import init_of

NOISE = random.Random(1).randbytes(2000).replace(b"\x47", b"\x48")


def packets(size: int, before: bytes = b"") -> bytes:
    """Return three MPEG-TS packets, each preceded by the bytes `before`, so that each packet and its prefix have `size`
    bytes together."""
    return b"".join(before + b"\x47" + NOISE[: size - 1 - len(before)] for _ in range(3))


KINDS: list[tuple[bytes, Kind]] = [
    (packets(188), Kind.TS),
    (packets(192, before=b"\x00\x00\x01\x02"), Kind.TS),
    (packets(204), Kind.TS),
    (b"\x89PNG\r\n\x1a\n" + NOISE[:90] + packets(188), Kind.TS),
    (b"\x47\x40\x00\x10" + bytes(184), Kind.TS),
    (b"\x00\x00\x00\x18stypmsdh", Kind.ISO),
    (b"\x00\x00\x00\x18ftypiso6", Kind.ISO),
    (b"\x00\x00\x01\x18emsg", Kind.ISO),
    (b"\x00\x00\x00\x20prft", Kind.ISO),
    (b"\x7f\x00\x00\x18mdat", Kind.ISO),
    (b"\x00\x00\x00\x20new1", Kind.ISO),
    (b"\xff\xf1\x50\x80\x2e\x7f\xfc", Kind.AUDIO),
    (b"\xff\xfb\x90\x64" + NOISE[:50], Kind.AUDIO),
    (b"ID3\x04\x00\x00\x00\x00\x00\x3fPRIV", Kind.AUDIO),
    (b"\x0b\x77" + NOISE[:50], Kind.AUDIO),
    (b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0", Kind.VTT),
    (b"\xef\xbb\xbfWEBVTT", Kind.VTT),
    (b"\x1a\x45\xdf\xa3\x9f\x42\x86", Kind.WEBM),
    (b"\x1f\x43\xb6\x75\x01", Kind.WEBM),
    (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", Kind.OTHER),
    (b"\x00\x00\x00\x01\x67\x42\x00\x1e", Kind.OTHER),
    (b"\xff\xff\xff\xff\x00", Kind.OTHER),
    (bytes(300), Kind.OTHER),
]


@pytest.mark.parametrize(("first", "kind"), KINDS, ids=[f"{kind.name}-{n}" for n, (_, kind) in enumerate(KINDS)])
def test_the_format_of_a_segment_is_recognised_by_its_first_bytes(first: bytes, kind: Kind) -> None:
    assert kind_of(first) is kind


@pytest.mark.parametrize(
    "first",
    [
        b"<!DOCTYPE html>",
        b"\n\n<html>",
        b'{"error":"gone"}',
        b"Gone",
        b"GIF",
        b"#EXTM3U\n",
        "Sídan fannst ekki".encode(),
    ],
)
def test_text_in_place_of_a_segment_raises_not_media(first: bytes) -> None:
    for text in (first, first * 100):
        with pytest.raises(NotMedia):
            kind_of(text)


IMAGES = {
    "GIF": b"GIF89a\x01\x00\x01\x00",
    "a long GIF": b"GIF89a\x01\x00\x01\x00\x80\x00" * 90,
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "WebP": b"RIFF\x24\x00\x00\x00WEBPVP8L\x00",
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_in_place_of_a_segment_raises_wrong_kind(name: str, strict: bool) -> None:
    for before in ([], [TS], [BOX], [OTHER]):
        judge = Judge(strict=strict)
        for each in before:
            judge.check(each)
        with pytest.raises(WrongKind):
            judge.check(IMAGES[name])


@given(st.binary(max_size=1500))
def test_detecting_the_format_of_any_first_bytes_returns_a_format_or_raises_an_error(first: bytes) -> None:
    try:
        kind = kind_of(first)
    except (NotMedia, WrongKind):
        return
    assert kind in Kind
    codecs_of(first)


TS, BOX, OTHER = packets(188), b"\x00\x00\x00\x18moofxxxx", NOISE[:500]


@pytest.mark.parametrize(
    ("before", "first", "strict", "fits"),
    [
        ([TS], TS, True, True),
        ([TS], BOX, True, False),
        ([TS], OTHER, True, False),
        ([BOX], OTHER, True, False),
        ([BOX], OTHER, False, True),
        ([BOX], TS, False, False),
        ([OTHER], TS, True, False),
        ([], OTHER, True, True),
        ([b"ID3\x04\x00"], b"\xff\xf1\x50\x80", True, True),
    ],
)
def test_a_segment_must_have_the_format_of_the_segments_before_it(
    before: list[bytes], first: bytes, strict: bool, fits: bool
) -> None:
    judge = Judge(strict=strict)
    for each in before:
        judge.check(each)
    if fits:
        judge.check(first)
    else:
        with pytest.raises(WrongKind):
            judge.check(first)
        for each in before:
            judge.check(each)


def test_an_encrypted_segment_whose_format_is_unknown_raises_an_error_about_its_decryption() -> None:
    with pytest.raises(WrongKind, match="decrypted"):
        Judge(strict=True).check(OTHER, encrypted=True)


def test_a_new_initialization_section_that_requires_other_decoders_raises_codec_change() -> None:
    judge = Judge(strict=True)
    for section in (init_of(b"avc1", b"mp4a"), init_of(b"mp4a", b"avc1"), init_of()):
        judge.check(section, initial=True)
    with pytest.raises(CodecChange):
        judge.check(init_of(b"hvc1", b"mp4a"), initial=True)


def test_the_codecs_of_an_initialization_section_are_those_of_its_sample_entries() -> None:
    section = init_of(b"avc1", b"mp4a")
    assert codecs_of(section) == {b"avc1", b"mp4a"}
    assert [len(codecs_of(section[:end])) for end in (0, 7, 40, len(section))] == [0, 0, 0, 2]
