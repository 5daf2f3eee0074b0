"""Tests of file names, and of Content-Disposition as curl and browsers parse it (RFC 6266, RFC 8187)."""

from __future__ import annotations

import functools
import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.api.filenames import content_disposition, file_name, own_name

EXT = st.sampled_from(["mp4", "webm", "jpg"])
DANGEROUS = set('/\\<>:"|?*')


def parse(header: str) -> tuple[str, str, str]:
    """Return the disposition type, the parameter `filename`, and the decoded parameter `filename*`."""
    match = re.fullmatch(r"(inline|attachment); filename=\"([^\"\\]*)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]*)", header)
    assert match, header
    return match[1], match[2], unquote(match[3], errors="strict")


def is_safe(name: str) -> bool:
    controls = any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)
    directions = re.search("[\u202a-\u202e\u2066-\u2069]", name)
    return not controls and not directions and not DANGEROUS & set(name) and name not in ("", ".", "..")


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("A film", "A film.mp4"),
        ("a/b\\c", "a_b_c.mp4"),
        ("../../etc/passwd", "_.._etc_passwd.mp4"),
        ("", "media.mp4"),
        (None, "media.mp4"),
        ("...", "media.mp4"),
        ("CON", "mediaCON.mp4"),
        ("lpt1.txt", "medialpt1.txt.mp4"),
        ("映画🎬", "映画🎬.mp4"),
        ("e\u0301te\u0301", "été.mp4"),
        ("abc\u202egpj", "abc_gpj.mp4"),
        ("x" * 300, "x" * 200 + ".mp4"),
        ("映" * 100, "映" * 66 + ".mp4"),
    ],
)
def test_unsafe_characters_of_a_title_are_replaced_in_the_file_name(title: str | None, expected: str) -> None:
    assert file_name(title, "mp4") == expected


@pytest.mark.parametrize(
    ("name", "ext", "expected"),
    [
        ("film.mkv", "mkv", "film.mkv"),
        ("film.MKV", "mkv", "film.MKV"),
        ("photo.jpeg", "jpg", "photo.jpeg"),
        ("film.mkv", "mp4", "film.mp4"),
        ("film", "mp4", "film.mp4"),
        ("a.b/c.mp4", "mp4", "a.b_c.mp4"),
        ("x.mp4.html", "mp4", "x.mp4.html.mp4"),
        ("setup.exe", "webm", "setup.exe.webm"),
        ("Vol. 2", "mp3", "Vol. 2.mp3"),
        (".bashrc", "mp4", "bashrc.mp4"),
        (".mp4", "mp4", "media.mp4"),
        ("..", "mp4", "media.mp4"),
        ("con.txt", "mp4", "mediacon.txt.mp4"),
        ("x" * 256 + ".html", "ts", "x" * 200 + ".ts"),
        ("x" * 9000 + ".mp4", "mp4", "x" * 200 + ".mp4"),
        ("x", "../html", "x.bin"),
    ],
)
def test_a_name_chosen_by_the_client_gets_the_extension_of_the_media(name: str, ext: str, expected: str) -> None:
    assert own_name(name, ext) == expected


@functools.cache
def decompositions() -> dict[str, str]:
    """Return all non-ASCII characters whose compatibility decomposition contains ASCII characters, and the
    decomposition of each."""
    found = {each: unicodedata.normalize("NFKD", each) for each in map(chr, range(0x80, 0x110000))}
    return {each: text for each, text in found.items() if any(letter.isascii() for letter in text)}


@pytest.mark.parametrize("special", [*sorted(DANGEROUS), ".", "%", ";", "=", " "])
def test_no_character_whose_decomposition_contains_ascii_can_end_the_quoted_filename_parameter(special: str) -> None:
    """Characters whose compatibility decomposition contains ASCII are full-width characters, U+2105 (c/o), U+2026
    (three dots), U+2A74 (::=), and some others."""
    forms = [each for each, text in decompositions().items() if special in text]
    assert forms
    for form in forms:
        for title in (f"x{form}; filename={form}evil.exe", f"{form}{form}{form}", f"{form}{form}/etc{form}"):
            for name in (file_name(title, "mp4"), own_name(title, "mp4")):
                kind, ascii_name, full = parse(content_disposition(name, attachment=True))
                assert (kind, full) == ("attachment", name)
                assert is_safe(ascii_name), (form, ascii_name)
                assert ascii_name.endswith(".mp4")
                assert not ascii_name.startswith((".", " "))
                assert "%" not in ascii_name


@pytest.mark.parametrize(
    ("title", "ascii_name"),
    [
        ("x＂; filename=＂evil．exe", "x_; filename=_evil.exe.mp4"),
        ("．．／．．／etc／passwd", "_.._etc_passwd.mp4"),
        ("ＣＯＮ", "mediaCON.mp4"),
        ("ＬＰＴ１．txt", "mediaLPT1.txt.mp4"),
        ("100％41", "100_41.mp4"),
        ("…", "media.mp4"),
        ("﹨server﹨share", "_server_share.mp4"),
        ("℅", "c_o.mp4"),
        ("a\u226eb", "a_b.mp4"),
        ("映画", "media.mp4"),
        ("Übergröße", "Ubergroe.mp4"),
    ],
)
def test_unsafe_characters_are_removed_from_the_ascii_file_name_after_unicode_decomposition(
    title: str, ascii_name: str
) -> None:
    assert parse(content_disposition(file_name(title, "mp4"), attachment=False))[1] == ascii_name


def test_an_unsafe_name_cannot_end_the_filename_parameter() -> None:
    for name in ('a"; filename="b.exe', "a＂; filename=＂b.exe", "a\r\nSet-Cookie: b", "a\\"):
        match = re.fullmatch(
            r'inline; filename="([^"\\\r\n]*)"; filename\*=UTF-8\'\'[A-Za-z0-9._~%-]*',
            content_disposition(name, attachment=False),
        )
        assert match, name


@given(st.text() | st.none(), EXT)
def test_every_title_gives_a_safe_file_name_that_a_client_can_parse(title: str | None, ext: str) -> None:
    name = file_name(title, ext)
    assert is_safe(name)
    assert name.endswith(f".{ext}")
    assert len(name.encode()) <= 255
    kind, ascii_name, full = parse(content_disposition(name, attachment=True))
    assert (kind, full) == ("attachment", name)
    assert is_safe(ascii_name)
    assert ascii_name.isascii()


@given(st.text(max_size=400), EXT)
def test_every_file_name_in_a_request_becomes_safe_and_can_be_parsed_by_a_client(text: str, ext: str) -> None:
    name = own_name(text, ext)
    assert is_safe(name)
    assert len(name.encode()) <= 255
    kind, ascii_name, full = parse(content_disposition(name, attachment=False))
    assert (kind, full) == ("inline", name)
    assert is_safe(ascii_name)
