"""The container is identified by the bytes themselves; web pages and documents are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy import containers
from serverpy.containers import Container, declared, identify, sniff
from serverpy.errors import NotMedia

TS_PACKET = b"G" + bytes(187)


@pytest.mark.parametrize(
    ("first", "ext", "expected"),
    [
        (b"\0\0\0\x20ftypisom", "mp4", "video/mp4"),
        (b"\0\0\0\x20ftypM4A ", "mp4", "audio/mp4"),
        (b"\0\0\0\x20ftypisom", "m4a", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  ", "mp4", "video/quicktime"),
        (b"\0\0\0\x14ftypavif", None, "image/avif"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "mp4", "video/webm"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", "mp4", "video/x-matroska"),
        (TS_PACKET * 2 + b"G", "mp4", "video/mp2t"),
        (b"ID3\x04\0\0", None, "audio/mpeg"),
        (b"\xff\xfb\x90\x64", None, "audio/mpeg"),
        (b"\xff\xf1\x50\x80", None, "audio/aac"),
        (b"OggS\0\2", "opus", "audio/ogg"),
        (b"\xff\xd8\xff\xe0", "png", "image/jpeg"),
        (b"WEBVTT\n\n", None, "text/vtt"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "jpg", "image/webp"),
    ],
)
def test_the_bytes_override_the_content_type_and_the_extension(first: bytes, ext: str | None, expected: str) -> None:
    assert identify(first, "video/x-flv", ext).content_type == expected


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
    ],
)
def test_pages_documents_and_text_are_not_media(first: bytes, content_type: str | None) -> None:
    with pytest.raises(NotMedia):
        identify(first, content_type, "mp4")


def test_unknown_bytes_are_identified_by_the_content_type_and_then_by_the_extension() -> None:
    unknown = b"\x00\x01\x02\x03\x04\x05\x06\x07\x08"
    assert identify(unknown, "video/webm; codecs=vp9", "mp4") is containers.WEBM
    assert identify(unknown, "video/x-made-up", "mp4") == Container("bin", "video/x-made-up")
    assert identify(unknown, "application/octet-stream", "mp4") is containers.MP4
    assert identify(unknown, None, "unknown_video") is containers.UNKNOWN


def test_a_range_is_identified_by_its_extension_first_unless_it_is_a_page() -> None:
    assert declared("video/mp4", "m4a") is containers.M4A
    assert declared("application/octet-stream", "webm") is containers.WEBM
    with pytest.raises(NotMedia):
        declared("text/html", "mp4")


@given(st.binary(max_size=600))
def test_sniffing_any_bytes_does_not_fail(first: bytes) -> None:
    container = sniff(first)
    assert container is None or "/" in container.content_type
