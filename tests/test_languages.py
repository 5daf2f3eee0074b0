"""Tests of the normal form of language tags."""

from __future__ import annotations

import pytest
from yt_dlp.utils import ISO639Utils

from serverpy.languages import codes_of, normalized

REPLACED = {"iw", "in", "ji", "pe"}
"""Codes in yt-dlp's table that ISO 639-1 does not contain or no longer contains."""


@pytest.mark.parametrize(
    ("tag", "right"),
    [
        ("en", "en"), ("eng", "en"), ("ENG", "en"), ("eng_US", "en-us"), ("en-GB", "en-gb"), (" eng ", "en"),
        ("deu", "de"), ("ger", "de"), ("fra", "fr"), ("fre", "fr"), ("zho", "zh"), ("chi-Hant-TW", "zh-hant-tw"),
        ("nld", "nl"), ("dut", "nl"), ("ces", "cs"), ("cze", "cs"), ("gre", "el"), ("may", "ms"), ("iw", "he"),
        ("gsw", "gsw"), ("cmn", "cmn"), ("und", "und"), ("english", "english"), ("en-eng", "en-eng"), ("", ""),
    ],
)  # fmt: skip
def test_tags_of_the_same_language_have_the_same_normal_form(tag: str, right: str) -> None:
    assert normalized(tag) == right


def test_every_language_with_a_short_code_is_known() -> None:
    known = {short: long for short, long in ISO639Utils._lang_map.items() if short not in REPLACED}
    assert len(known) == 184
    assert [short for short, long in known.items() if normalized(long) != short or normalized(short) != short] == []


@pytest.mark.parametrize(
    ("language", "codes"), [("de", {"de", "deu", "ger"}), ("he", {"he", "heb", "iw"}), ("gsw", {"gsw"})]
)
def test_the_codes_of_a_language_are_those_that_have_its_normal_form(language: str, codes: set[str]) -> None:
    assert set(codes_of(language)) == codes
    assert {normalized(code) for code in codes} == {language}
