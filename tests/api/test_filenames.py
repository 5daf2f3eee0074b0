"""File names, and Content-Disposition as curl and browsers parse it (RFC 6266, RFC 8187)."""

from __future__ import annotations

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
    """Return the disposition type, `filename`, and the decoded `filename*`."""
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
def test_a_title_becomes_a_file_name(title: str | None, expected: str) -> None:
    assert file_name(title, "mp4") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.mkv", "film.mkv"),
        ("film", "film"),
        ("a.b/c.mp4", "a.b_c.mp4"),
        (".bashrc", "bashrc"),
        ("..", "media"),
        ("no ext. here", "no ext. here"),
        ("con.txt", "mediacon.txt"),
    ],
)
def test_a_name_chosen_by_the_client_keeps_its_extension(name: str, expected: str) -> None:
    assert own_name(name) == expected


@given(st.text() | st.none(), EXT)
def test_every_title_gives_a_safe_name_that_parses_back(title: str | None, ext: str) -> None:
    name = file_name(title, ext)
    assert is_safe(name)
    assert name.endswith(f".{ext}")
    assert len(name.encode()) <= 255
    kind, ascii_name, full = parse(content_disposition(name, attachment=True))
    assert (kind, full) == ("attachment", name)
    assert is_safe(ascii_name)
    assert ascii_name.isascii()


@given(st.text(max_size=255))
def test_every_name_chosen_by_the_client_is_made_safe_and_parses_back(text: str) -> None:
    name = own_name(text)
    assert is_safe(name)
    assert len(name.encode()) <= 255
    kind, ascii_name, full = parse(content_disposition(name, attachment=False))
    assert (kind, full) == ("inline", name)
    assert is_safe(ascii_name)
