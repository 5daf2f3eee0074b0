"""Tests of the expiry times that media URLs contain."""

from __future__ import annotations

import pytest

from serverpy.ytdlp.page.expiry import expires_at

NOW = 1_795_000_000.0  # this timestamp means 2026-11-18T11:06:40Z
SOON = int(NOW) + 3600


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://v.example/videoplayback?expire={SOON}&id=1", SOON),
        (f"https://v.example/a.mp4?e={SOON}", SOON),
        (f"https://v.example/a.mp4?exp={SOON}000", SOON),
        (f"https://v.example/a.mp4?Expires={SOON}&Signature=x", SOON),
        (f"https://v.example/expire/{SOON}/ei/x/file.m3u8", SOON),
        (f"https://v.example/a.mp4?hdnts=st=1~exp={SOON}~acl=/*~hmac=f", SOON),
        ("https://s.example/a?X-Amz-Date=20261118T110640Z&X-Amz-Expires=900", NOW + 900),
        ("https://s.example/a?X-Goog-Date=20261118T110640Z&X-Goog-Expires=60", NOW + 60),
        ("https://s.example/a?se=2026-11-18T12%3A06%3A40Z&sig=x", NOW + 3600),
        (f"https://v.example/a.mp4?e={SOON + 100}&expire={SOON}", SOON),
        (f"https://v.example/a.mp4?expire={int(NOW) - 10}", NOW - 10),
    ],
)
def test_the_earliest_plausible_time_in_a_url_is_its_expiry(url: str, expected: float) -> None:
    assert expires_at(url, NOW) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://v.example/a.mp4",
        "https://v.example/a.mp4?e=42",
        "https://v.example/a.mp4?e=1111111111",
        "https://v.example/a.mp4?expires=9999999999",
        "https://v.example/a.mp4?expire=tomorrow",
        "https://s.example/a?X-Amz-Date=20269918T110640Z&X-Amz-Expires=900",
        "https://s.example/a?se=2026-99-18T14:46:40Z",
        "https://[v.example/a?expire=1795003600",
        "",
    ],
)
def test_a_url_without_a_plausible_time_has_no_expiry(url: str) -> None:
    assert expires_at(url, NOW) is None
