"""Tests of how HLS playlists are repaired before yt-dlp parses them, and of which playlists stay unchanged."""

from __future__ import annotations

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.generic import GenericIE

from serverpy.ytdlp.download.numbering import Numbered, numbered
from serverpy.ytdlp.m3u8 import addresses_without_audio, begin_with_header, duration_of, mended

URL = "https://media.example/a/master.m3u8?token=5"
BANDWIDTH = "#EXT-X-STREAM-INF:BANDWIDTH=200000"
CODECS = 'CODECS="avc1.4d401e,mp4a.40.2"'


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n", b" \r\n\t", b"\xef\xbb\xbf\n"])
def test_bytes_before_the_extm3u_tag_of_a_playlist_are_removed(before: bytes) -> None:
    assert begin_with_header(before + b"#EXTM3U\n#EXT") == b"#EXTM3U\n#EXT"


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf<html>", b"\n\n{}", b"\xef\xbb", b"#EXTM3U", b"  #EXT"])
def test_responses_that_are_not_playlists_stay_unchanged(data: bytes) -> None:
    assert begin_with_header(data) == data


MEDIA = "#EXTM3U\n#EXTINF:2,\ns0.ts\n"
CHANNELS = '#EXTM3U\n#EXTINF:-1 tvg-id="one",One\nhttps://tv.example/one.m3u8\n'


@pytest.mark.parametrize("text", [MEDIA, "#EXTM3U\n#EXTINF:\ns.ts", "#EXTM3U\ns.ts\n#EXT-X-ENDLIST", MEDIA * 2])
def test_the_repair_adds_a_target_duration_to_a_media_playlist_that_has_none(text: str) -> None:
    assert "#EXT-X-TARGETDURATION" in mended(text, URL)


@pytest.mark.parametrize(
    "text", [CHANNELS, f"#EXTM3U\n{BANDWIDTH}\nv.m3u8", f"{MEDIA}#EXT-X-TARGETDURATION:2", "#EXTM3U\nv.m3u8"]
)
def test_a_playlist_that_needs_no_target_duration_stays_unchanged(text: str) -> None:
    assert mended(text, URL) == text


IDENTITY = '#EXT-X-KEY:METHOD=AES-128,URI="k"'
FAIRPLAY = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"'
PLAYREADY = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="data:,x",KEYFORMAT="com.microsoft.playready"'
MASTER = f"#EXTM3U\n{BANDWIDTH}\nv.m3u8"


@pytest.mark.parametrize(
    ("tags", "has_drm"),
    [
        ([IDENTITY, FAIRPLAY], False),
        ([FAIRPLAY, IDENTITY + ',KEYFORMAT="identity"', PLAYREADY], False),
        ([FAIRPLAY.replace(",URI", " , URI"), IDENTITY.replace("=", " = ")], False),
        ([FAIRPLAY], True),
        ([PLAYREADY], True),
        ([IDENTITY.replace("AES-128", "SAMPLE-AES"), FAIRPLAY], True),
    ],
)
@pytest.mark.parametrize("kind", ["#EXT-X-KEY", "#EXT-X-SESSION-KEY"])
def test_a_playlist_has_drm_only_if_none_of_its_keys_can_be_used_without_drm(
    tags: list[str], kind: str, has_drm: bool
) -> None:
    lines = [tag.replace("#EXT-X-KEY", kind) for tag in tags]
    text = "\n".join([MASTER, *lines] if kind == "#EXT-X-SESSION-KEY" else ["#EXTM3U", *lines, "#EXTINF:2,", "s.ts"])
    extractor = GenericIE(YoutubeDL({"quiet": True}, auto_init=False))
    formats, _ = extractor._parse_m3u8_formats_and_subtitles(mended(text, URL), URL)
    assert [each["has_drm"] for each in formats] == [has_drm]


def test_attributes_beside_white_space_are_read() -> None:
    text = (
        '#EXTM3U\n#EXT-X-MEDIA: TYPE=AUDIO , GROUP-ID = "a , b" ,NAME="One, = two",URI ="a.m3u8"\n'
        f'{BANDWIDTH} , {CODECS} , AUDIO = "a , b"\nv.m3u8\n'
    )
    extractor = GenericIE(YoutubeDL({"quiet": True}, auto_init=False))
    formats, _ = extractor._parse_m3u8_formats_and_subtitles(mended(text, URL), URL)
    audio, video = formats
    assert (audio["format_note"], audio["url"]) == ("One, = two", "https://media.example/a/a.m3u8")
    assert (video["acodec"], video["tbr"]) == ("none", 200)


@pytest.mark.parametrize(
    ("url", "variant", "audio", "resolved"),
    [
        (URL, "v\\1.m3u8", "..\\a.m3u8", ("https://media.example/a/v/1.m3u8", "https://media.example/a.m3u8")),
        ("https://media.example//a//m.m3u8", "v.m3u8", "b//a.m3u8",
         ("https://media.example//a//v.m3u8", "https://media.example//a//b//a.m3u8")),
        (URL, "https://cdn.example/v.m3u8", "/a.m3u8", ("https://cdn.example/v.m3u8", "https://media.example/a.m3u8")),
    ],
)  # fmt: skip
def test_the_uris_in_a_master_playlist_are_resolved_as_browsers_resolve_them(
    url: str, variant: str, audio: str, resolved: tuple[str, str]
) -> None:
    group = f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{audio}"'
    text = f'#EXTM3U\n{group}\n{BANDWIDTH},{CODECS},AUDIO="a"\n{variant}\n'
    extractor = GenericIE(YoutubeDL({"quiet": True}, auto_init=False))
    formats, _ = extractor._parse_m3u8_formats_and_subtitles(mended(text, url), url)
    assert [each["url"] for each in reversed(formats)] == [*resolved]


def test_white_space_in_a_long_attribute_list_is_removed_in_linear_time() -> None:
    """In quadratic time, the test would exceed its time limit."""
    n = 2_000_000
    lines = [f"{BANDWIDTH}{' ' * n}x", f"{BANDWIDTH},{' ,' * n}", BANDWIDTH + '"' * (n + 1)]
    without = [lines[0], f"{BANDWIDTH},{',' * n}", lines[2]]
    text = "\n".join(["#EXTM3U", *(line + " " for line in lines), "v.m3u8"])
    is_tidy = mended(text, URL).splitlines() == ["#EXTM3U", *without, "v.m3u8"]
    assert is_tidy  # without a comparison in the assertion, whose report would be long


GROUP = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",{}URI="a.m3u8"'
NAMES = [("", "a"), ('LANGUAGE="eng",', "eng"), ('NAME="",', "a"), ('NAME="English",', "English")]


@pytest.mark.parametrize(("attributes", "name"), NAMES, ids=["group", "language", "empty", "named"])
def test_the_repair_adds_a_name_to_an_audio_rendition_that_has_none(attributes: str, name: str) -> None:
    """If a rendition has no NAME, yt-dlp ignores the audio rendition, and mistakes a video-only variant for one with
    audio."""
    text = f'#EXTM3U\n{GROUP.format(attributes)}\n{BANDWIDTH},{CODECS},AUDIO="a"\nv.m3u8\n'
    extractor = GenericIE(YoutubeDL({"quiet": True}, auto_init=False))
    formats, _ = extractor._parse_m3u8_formats_and_subtitles(mended(text, URL), URL)
    audio, video = formats
    assert (audio["format_note"], audio["vcodec"], audio["url"]) == (name, "none", "https://media.example/a/a.m3u8")
    assert (video["acodec"], video["url"]) == ("none", "https://media.example/a/v.m3u8")


def rendition(name: str, more: str = "", group: str = "a") -> str:
    return f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{group}",NAME="{name}",URI="{name}.m3u8"{more}'


YES, NO = ",DEFAULT=YES,AUTOSELECT=YES", ",DEFAULT=NO"


@pytest.mark.parametrize(
    ("renditions", "alternates"),
    [
        ([rendition("en"), rendition("de", YES)], {"en"}),
        ([rendition("de", YES), rendition("en", ",AUTOSELECT=YES "), rendition("fr", NO)], {"en", "fr"}),
        ([rendition("en", YES), rendition("en AD", ',CHARACTERISTICS="public.accessibility.describes-video"')],
         {"en AD"}),
        ([rendition("en"), rendition("de")], set()),
        ([rendition("en"), rendition("de", YES, group="b"), rendition("fr", group="b")], {"fr"}),
    ],
)  # fmt: skip
def test_audio_without_the_attribute_default_is_not_the_default_if_other_audio_in_its_group_is(
    renditions: list[str], alternates: set[str]
) -> None:
    text = "\n".join(["#EXTM3U", *renditions, f'{BANDWIDTH},{CODECS},AUDIO="a"', "v.m3u8", ""])
    extractor = GenericIE(YoutubeDL({"quiet": True}, auto_init=False))
    formats, _ = extractor._parse_m3u8_formats_and_subtitles(mended(text, URL), URL)
    assert {each["format_note"] for each in formats if each.get("source_preference") == -2} == alternates


def test_defined_variables_of_a_master_playlist_are_replaced_by_their_values() -> None:
    """Variables without a definition stay unchanged in the playlist."""
    lines = [
        "#EXTM3U", '#EXT-X-DEFINE:NAME="dir",VALUE="b"', '#EXT-X-DEFINE:QUERYPARAM="token"',
        f'{BANDWIDTH},NAME="{{$x}}"', "{$dir}/v.m3u8?t={$token}",
        GROUP.format('NAME="{$dir}",'), BANDWIDTH, "{$unknown}/v.m3u8",
    ]  # fmt: skip
    text = mended("\n".join(lines), URL)
    assert "\nb/v.m3u8?t=5\n" in text
    assert 'NAME="b"' in text
    assert text.endswith("{$unknown}/v.m3u8")
    assert 'NAME="{$x}"' in text


APART = GROUP.format('NAME="A",')
MUXED = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="B"'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([APART, f'{BANDWIDTH},AUDIO="a"', "v.m3u8"], ["v.m3u8"]),
        ([f'{BANDWIDTH},AUDIO="a"', "v.m3u8", APART], ["v.m3u8"]),
        ([APART, f'{BANDWIDTH},{CODECS},AUDIO="a"', "v.m3u8"], []),
        ([APART, f'{BANDWIDTH},AUDIO="b"', "v.m3u8"], []),
        ([APART, BANDWIDTH, "v.m3u8"], []),
        ([APART, MUXED, f'{BANDWIDTH},AUDIO="a"', "v.m3u8"], []),
        ([BANDWIDTH, "v.m3u8", '#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS="mp4a.40.5"', "a.m3u8"], []),
    ],
    ids=["apart", "group behind", "codecs", "another group", "no group", "muxed too", "a variant of audio alone"],
)
def test_a_variant_without_codecs_has_no_audio_of_its_own_if_its_audio_group_has_playlists(
    lines: list[str], expected: list[str]
) -> None:
    assert list(addresses_without_audio("\n".join(["#EXTM3U", *lines]))) == expected


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [(["2,", "2.5,"], 4), (["", "2,"], 2), (["abc,", "3"], 3), (["0.4,"], 1), ([""], None), (["1e999,", "nan,"], None)],
)
def test_segments_with_an_invalid_duration_add_nothing_to_the_duration_of_a_playlist(
    durations: list[str], seconds: int | None
) -> None:
    text = "".join(f"#EXTINF:{each}\ns.ts\n" for each in durations)
    assert duration_of(f"#EXTM3U\n{text}#EXT-X-ENDLIST") == seconds
    assert duration_of(f"#EXTM3U\n{text}") is None


AD, MAIN = "#UPLYNK-SEGMENT:x,0,ad", "#UPLYNK-SEGMENT:x,0,segment"


def test_the_fragments_of_a_playlist_are_numbered_by_its_media_sequence() -> None:
    text = (
        '#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-MAP:URI="i"\na\n#EXT-X-GAP\nb\n#EXT-X-MAP:URI="j"\n#EXT-X-DISCONTINUITY\nc\n'
    )
    five = [Numbered(5, is_map=True), Numbered(5), Numbered(6, is_gap=True), Numbered(7, is_map=True)]
    assert numbered(text, None) == [*five, Numbered(7)]
    assert numbered(text, 0) == five
    assert numbered(text, 1) == [Numbered(7)]
    adverts = "#UPLYNK-SEGMENT:x,0,ad\na\n#UPLYNK-SEGMENT:x,0,segment\nb"
    assert numbered(adverts, None) == [Numbered(1)]


@pytest.mark.parametrize(
    ("lines", "discontinuity", "ranges"),
    [
        (["#EXT-X-BYTERANGE:5@2", "a", "b", "#EXT-X-BYTERANGE:3", "a"], None, [(2, 7), None, (7, 10)]),
        ([AD, "#EXT-X-BYTERANGE:5@2", "a", MAIN, "b"], None, [None]),
        ([AD, "#EXT-X-BYTERANGE:5", "a", MAIN, "#EXT-X-BYTERANGE:3", "a"], None, [(5, 8)]),
        (["#EXT-X-BYTERANGE:5@2", "a", "#EXT-X-DISCONTINUITY", "b"], 1, [None]),
        (["#EXT-X-GAP", "#EXT-X-BYTERANGE:5@2", "a", "b"], None, [(2, 7), None]),
    ],
    ids=["plain", "an advert", "an advert in the same file", "another format", "a gap"],
)
def test_a_byte_range_applies_only_to_the_next_url(
    lines: list[str], discontinuity: int | None, ranges: list[tuple[int, int] | None]
) -> None:
    assert [each.byte_range for each in numbered("\n".join(lines), discontinuity)] == ranges
