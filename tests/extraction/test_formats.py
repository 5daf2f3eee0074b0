"""What is streamed where nobody chose: the best that can be had in one piece and sought, and never half a film."""

from __future__ import annotations

import pytest

from serverpy.errors import DrmProtected, FormatNotFound, ServerPYError, UnsupportedConversion
from serverpy.extraction.choice import Choice, default_choices, is_seekable, selected, silent
from serverpy.extraction.values import Media, Track

MASTER = "https://example.com/master.m3u8"


def track(id: str, height: int | None = None, *, ext: str = "mp4", protocol: str = "https", **fields: object) -> Track:
    values = {"vcodec": "avc1" if height else None, "height": height, **fields}
    return Track(id=id, url=f"https://example.com/{id}", protocol=protocol, ext=ext, **values)  # type: ignore[arg-type]


def film(id: str, height: int, **fields: object) -> Track:
    return track(id, height, **{"acodec": "mp4a", **fields})  # type: ignore[arg-type]


def sound(id: str = "sound", **fields: object) -> Track:
    return track(id, None, **{"acodec": "mp4a", "ext": "m4a", **fields})  # type: ignore[arg-type]


def media(*tracks: Track) -> Media:
    return Media(
        raw_id="1",
        id="1",
        title="A film",
        kind="video",
        extractor="X",
        webpage_url="https://example.com",
        tracks=tracks,
    )


def weaves(track: Track) -> bool:
    return is_seekable(track) and track.ext in ("mp4", "m4a")


def chosen(*tracks: Track) -> list[list[str]]:
    choices = default_choices(media(*tracks), lambda track: track.note != "nobody's", weaves)
    return [[each.id for each in choice] for choice in choices]


def test_a_pair_is_chosen_where_it_is_higher_and_the_film_stands_by() -> None:
    assert chosen(sound(), film("360", 360), track("1080", 1080)) == [["1080", "sound"], ["360"]]


def test_a_film_that_is_as_high_and_can_be_sought_is_chosen() -> None:
    assert chosen(sound(), film("720", 720), track("720v", 720)) == [["720"]]


def test_a_pair_is_chosen_where_the_film_as_high_cannot_be_sought() -> None:
    assert chosen(sound(), track("720v", 720), film("hls", 720, protocol="m3u8_native")) == [["720v", "sound"], ["hls"]]


def test_a_higher_film_that_cannot_be_sought_is_chosen() -> None:
    assert chosen(sound(), track("720v", 720), film("hls", 1080, protocol="m3u8_native")) == [["hls"]]


def test_the_best_of_those_that_can_be_woven_make_the_pair() -> None:
    tracks = sound("low"), sound("best"), sound("opus", ext="webm"), track("720", 720), track("vp9", 2160, ext="webm")
    assert chosen(*tracks) == [["720", "best"]]


def test_pictures_and_sounds_that_cannot_be_woven_are_refused() -> None:
    with pytest.raises(UnsupportedConversion):
        chosen(sound(ext="webm"), track("vp9", 720, ext="webm"))


def test_a_variant_with_a_group_of_sound_and_no_codecs_is_silent() -> None:
    """`acodec` is unknown then, as it is for a film that simply says nothing."""
    hls = {"protocol": "m3u8_native", "manifest_url": MASTER}
    variant, group = film("hls", 720, acodec="unknown", **hls), sound("group", **hls)
    assert silent([variant, group]) == {"hls"}
    assert silent([variant]) == set()
    assert silent([variant, sound("elsewhere")]) == set()
    assert chosen(film("360", 360), group, variant) == [["360"]]
    with pytest.raises(UnsupportedConversion):
        chosen(group, variant)


@pytest.mark.parametrize(
    ("tracks", "error"),
    [
        ((film("drm", 360, has_drm=True),), DrmProtected),
        ((film("rtmp", 360, note="nobody's"),), FormatNotFound),
    ],
)
def test_nothing_to_stream_is_an_error(tracks: tuple[Track, ...], error: type[ServerPYError]) -> None:
    with pytest.raises(error):
        chosen(*tracks)


def test_sound_alone_and_pictures_alone_are_chosen_where_there_is_nothing_else() -> None:
    assert chosen(sound("low"), sound("best")) == [["best"]]
    assert chosen(track("mute", 360)) == [["mute"]]


def picked(*ids: str) -> Choice:
    tracks = sound(), track("720", 720), track("vp9", 720, ext="webm"), film("drm", 720, has_drm=True)
    return selected(media(*tracks), ids, weaves)


def test_a_selection_of_two_is_picture_and_sound_in_whichever_order() -> None:
    assert [each.id for each in picked("720", "sound")] == ["720", "sound"]
    assert [each.id for each in picked("sound", "720")] == ["720", "sound"]
    assert [each.id for each in picked("vp9")] == ["vp9"]


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (("vp9", "sound"), UnsupportedConversion),
        (("720", "720"), UnsupportedConversion),
        (("720", "sound", "sound"), UnsupportedConversion),
        (("drm",), DrmProtected),
        (("720", "gone"), FormatNotFound),
        ((), FormatNotFound),
    ],
)
def test_a_selection_that_cannot_be_had_is_an_error(ids: tuple[str, ...], error: type[ServerPYError]) -> None:
    with pytest.raises(error):
        picked(*ids)
