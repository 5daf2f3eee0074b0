"""Tests that the search for the extractor of a URL agrees with yt-dlp's own search."""

from __future__ import annotations

from typing import Any

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor

from serverpy.ytdlp.session.extractors import _acceptance, first_suitable, known
from serverpy.ytdlp.session.instance import Instance

A_URL = "https://example.invalid/a"
B_URL = "https://example.invalid/b"


class AIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp is untyped
    _VALID_URL = r"https?://example\.invalid/a"


class EitherIE(InfoExtractor):  # type: ignore[misc]
    _VALID_URL = (r"https?://example\.invalid/a", r"https?://example\.invalid/b")


class NoneIE(InfoExtractor):  # type: ignore[misc]
    _VALID_URL = False


class PickyIE(AIE):
    @classmethod
    def suitable(cls, url: str) -> bool:
        return "picky" in url and bool(super().suitable(url))


class PickyHeirIE(PickyIE):
    _VALID_URL = r"https?://example\.invalid/b"


class OddMatchIE(AIE):
    @classmethod
    def _match_valid_url(cls, url: str) -> str | None:
        return url if "odd" in url else None


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://www.youtube.com/watch?v=abcdefghijk", "Youtube"),
        ("https://www.youtube.com/watch?v=abcdefghijk&list=PLabc", "YoutubeTab"),
        ("https://www.youtube.com/playlist?list=PLabc", "YoutubeTab"),
        ("https://vimeo.com/123", "Vimeo"),
        ("https://soundcloud.com/artist/sets/name", "SoundcloudSet"),
        ("https://www.bbc.co.uk/programmes/b039d07m", "BBCCoUk"),
        ("ytsearch:film", "YoutubeSearch"),
        ("http://127.0.0.1:8000/page?fresh=1", "Generic"),
        ("", "Generic"),
    ],
)
def test_the_extractor_of_a_url_is_the_first_one_that_ytdlp_finds_suitable(url: str, key: str) -> None:
    assert next(key for key, ie in known().classes.items() if ie.suitable(url)) == key
    assert first_suitable(url) == key


@pytest.mark.parametrize("ie", [AIE, EitherIE, NoneIE, PickyIE, PickyHeirIE, OddMatchIE])
def test_the_fast_check_of_an_extractor_accepts_the_same_urls_as_its_method_suitable(ie: type[InfoExtractor]) -> None:
    accepts = _acceptance(ie)
    for url in (A_URL, B_URL, f"{A_URL}/picky", f"{B_URL}/picky", f"{A_URL}/odd", "https://host.invalid/odd", ""):
        assert bool(accepts(url)) == ie.suitable(url), url


@pytest.mark.parametrize(
    ("given", "key"),
    [({}, "Vimeo"), ({"ie_key": "Generic"}, "Generic"), ({"force_generic_extractor": True}, None),
     ({"ie_key": "Vimeo", "force_generic_extractor": True}, "Vimeo")],
)  # fmt: skip
def test_a_session_leaves_the_choice_of_a_forced_extractor_to_ytdlp(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], key: str | None
) -> None:
    """yt-dlp looks at `force_generic_extractor` only if it is given no key of an extractor."""

    def extract_info(self: YoutubeDL, url: str, download: bool, ie_key: str | None, **more: Any) -> Any:
        return ie_key, more

    monkeypatch.setattr(YoutubeDL, "extract_info", extract_info)
    session = Instance.__new__(Instance)  # a session without a network suffices
    more = {name: value for name, value in given.items() if name != "ie_key"}
    assert session.extract_info("https://vimeo.com/123", **given) == (key, more)
