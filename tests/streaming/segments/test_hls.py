"""Tests of the parser for HLS media playlists: the effect of each tag on the segments, and the playlists that are
refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.errors import DrmProtected, ServerPYError, TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.extraction.values import AesKey
from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.segment import MAX_SEGMENTS, Rules, Segment

BASE = "https://media.example/film/high.m3u8?token=1"


def read(text: str, **rules: object) -> list[Segment]:
    # mypy cannot check an unpacked dict
    return read_with(MediaPlaylist(BASE, Rules(**rules)), text)  # type: ignore[arg-type]


def read_with(playlist: MediaPlaylist, text: str) -> list[Segment]:
    return [segment for line in ("#EXTM3U\n" + text).splitlines() for segment in playlist.feed(line)]


def paths(segments: Iterable[Segment]) -> list[str]:
    return [segment.url.removeprefix("https://media.example/film/") for segment in segments]


def test_segment_uris_are_relative_to_the_url_of_the_playlist() -> None:
    text = "#EXTINF:2.5,A title\none.ts\n#EXTINF:3\n/two.ts?a=b\nhttps://cdn.example/three.ts\n//cdn.example/four.ts"
    found = read(text)
    assert [segment.url for segment in found] == [
        "https://media.example/film/one.ts",
        "https://media.example/two.ts?a=b",
        "https://cdn.example/three.ts",
        "https://cdn.example/four.ts",
    ]
    assert [segment.duration for segment in found] == [2.5, 3.0, None, None]
    assert [segment.number for segment in found] == [0, 1, 2, 3]


def test_the_target_duration_and_the_media_sequence_and_the_discontinuity_sequence_are_parsed() -> None:
    playlist = MediaPlaylist(BASE, Rules())
    head = "#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n"
    found = read_with(playlist, f"{head}#EXTINF:6,\n7.ts\n#EXTINF:5.5,\n8.ts")
    assert (playlist.target_seconds, playlist.first_number, found[0].discontinuity) == (6, 7, 1)
    assert [segment.number for segment in found] == [7, 8]
    assert (playlist.count, playlist.seconds, playlist.length, playlist.is_complete) == (2, 11.5, None, False)


@pytest.mark.parametrize(
    "end", ["#EXT-X-ENDLIST", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-PLAYLIST-TYPE: vod", '#EXT-X-PLAYLIST-TYPE:"VOD"']
)
def test_a_playlist_with_an_end_tag_or_of_type_vod_is_complete(end: str) -> None:
    playlist = MediaPlaylist(BASE, Rules())
    read_with(playlist, f"one.ts\n{end}")
    assert playlist.is_complete


def test_a_master_playlist_is_recognised_and_has_no_segments() -> None:
    playlist = MediaPlaylist(BASE, Rules())
    assert read_with(playlist, "#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8") == []
    assert playlist.is_master


def test_a_byte_range_without_an_offset_begins_at_the_end_of_the_previous_range() -> None:
    text = "#EXT-X-BYTERANGE:100@50\nall.ts\n#EXT-X-BYTERANGE:20\nall.ts\nother.ts\n#EXT-X-BYTERANGE:30\nall.ts"
    found = read(text)
    assert [(segment.first, segment.end) for segment in found] == [(50, 150), (150, 170), (0, None), (170, 200)]
    assert [segment.length for segment in found] == [100, 20, None, 30]


@pytest.mark.parametrize(
    ("text", "span"),
    [("100@50,", (50, 150)), ('"100@50"', (50, 150)), (" 100 @ 50 ", (50, 150)), ("", (0, None)),
     (" ", (0, None))],
)  # fmt: skip
def test_a_malformed_byte_range_is_read_as_players_read_it(text: str, span: tuple[int, int | None]) -> None:
    (segment,) = read(f"#EXT-X-BYTERANGE:{text}\nall.ts")
    assert (segment.first, segment.end) == span


def test_the_total_length_of_a_playlist_whose_segments_are_all_byte_ranges_is_known() -> None:
    playlist = MediaPlaylist(BASE, Rules())
    read_with(playlist, '#EXT-X-MAP:URI="all.mp4",BYTERANGE="80@0"\n#EXT-X-BYTERANGE:100@80\nall.mp4')
    assert playlist.length == 180


def test_the_initialization_section_of_an_ext_x_map_tag_precedes_the_next_segment_in_the_list() -> None:
    found = read('#EXT-X-MAP:URI="init.mp4",BYTERANGE="80"\n#EXT-X-MEDIA-SEQUENCE:4\none.m4s')
    assert paths(found) == ["init.mp4", "one.m4s"]
    assert [(segment.initial, segment.first, segment.end) for segment in found] == [(True, 0, 80), (False, 0, None)]
    assert found[1].number == 4


def test_an_initialization_section_that_a_later_ext_x_map_tag_repeats_is_listed_only_once() -> None:
    again = '#EXT-X-MAP:URI="init.mp4"\n'
    assert paths(read(f"{again}one.m4s\n#EXT-X-DISCONTINUITY\n{again}two.m4s")) == ["init.mp4", "one.m4s", "two.m4s"]


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (("a.mp4", "b.mp4"), ["a.mp4", "0.m4s", "b.mp4", "1.m4s"]),
        (("a.mp4", "ad.mp4", "a.mp4"), ["a.mp4", "0.m4s", "ad.mp4", "1.m4s", "a.mp4", "2.m4s"]),
        (('all.mp4",BYTERANGE="9@0', 'all.mp4",BYTERANGE="9@50'), ["all.mp4", "0.m4s", "all.mp4", "1.m4s"]),
    ],
    ids=["another address", "an advert between", "another range"],
)
def test_each_ext_x_map_tag_that_names_a_new_initialization_section_adds_this_section_to_the_segment_list(
    maps: tuple[str, ...], expected: list[str]
) -> None:
    found = read("".join(f'#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="{uri}"\n{n}.m4s\n' for n, uri in enumerate(maps)))
    assert paths(found) == expected
    assert [segment.number for segment in found] == [n for n, _ in enumerate(maps) for _ in range(2)]


def test_a_segment_whose_key_has_no_iv_uses_its_media_sequence_number_as_iv() -> None:
    found = read('#EXT-X-MEDIA-SEQUENCE:258\n#EXT-X-KEY:METHOD=AES-128,URI="k"\na.ts\nb.ts')
    vectors = [segment.encryption.iv for segment in found if segment.encryption]
    assert vectors == [bytes(14) + b"\x01\x02", bytes(14) + b"\x01\x03"]
    assert found[0].encryption is not None
    assert found[0].encryption.uri == "https://media.example/film/k"


def test_keys_may_change_and_encryption_may_end_within_a_playlist() -> None:
    key = '#EXT-X-KEY:METHOD=AES-128,URI="{}",IV=0x{}\n'
    found = read(key.format("k1", "ff") + "a.ts\n" + key.format("k2", "0" * 32) + "b.ts\n#EXT-X-KEY:METHOD=NONE\nc.ts")
    assert [(each.encryption.uri[-2:], each.encryption.iv) for each in found if each.encryption] == [
        ("k1", bytes(15) + b"\xff"),
        ("k2", bytes(16)),
    ]
    assert found[2].encryption is None


def test_the_key_or_key_url_of_the_extraction_overrides_that_of_the_playlist() -> None:
    text = '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1\na.ts'
    (by_key,) = read(text, aes=AesKey(key="0x" + "ab" * 16, iv="2"))
    (by_uri,) = read(text, aes=AesKey(uri="https://keys.example/1"), key_query="t=1")
    assert by_key.encryption is not None
    assert by_uri.encryption is not None
    assert (by_key.encryption.key, by_key.encryption.iv[-1]) == (b"\xab" * 16, 2)
    assert (by_uri.encryption.uri, by_uri.encryption.iv[-1]) == ("https://keys.example/1", 1)


def test_query_parameters_of_the_extraction_are_added_to_segment_and_key_urls() -> None:
    text = '#EXT-X-MAP:URI="i.mp4?a=1"\n#EXT-X-KEY:METHOD=AES-128,URI="k?a=1"\na.ts?b=2&a=1'
    plain, keyed = read(text, segment_query="a=3"), read(text, segment_query="a=3", key_query="c=4")
    assert paths(plain) == ["i.mp4?a=3", "a.ts?b=2&a=3"]
    uris = [found[1].encryption.uri for found in (plain, keyed) if found[1].encryption]
    assert uris == ["https://media.example/film/k?a=3", "https://media.example/film/k?a=1&c=4"]


def test_only_the_segments_of_the_requested_discontinuity_are_listed() -> None:
    text = "a.ts\n#EXT-X-DISCONTINUITY\nb.ts\nc.ts\n#EXT-X-DISCONTINUITY\nd.ts"
    assert paths(read(text, discontinuity=1)) == ["b.ts", "c.ts"]
    assert [segment.discontinuity for segment in read(text)] == [0, 1, 1, 2]
    assert [segment.number for segment in read(text, discontinuity=1)] == [1, 2]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("#ANVATO-SEGMENT-INFO: type=ad,x=1", "#ANVATO-SEGMENT-INFO: type=master"),
        ("#UPLYNK-SEGMENT:abc,0,ad", "#UPLYNK-SEGMENT:abc,0,segment"),
    ],
)
def test_segments_between_advert_tags_are_left_out_of_the_list(begin: str, end: str) -> None:
    assert paths(read(f"a.ts\n{begin}\nad.ts\n{end}\nb.ts")) == ["a.ts", "b.ts"]


def test_gap_tags_and_program_dates_are_parsed() -> None:
    first, second = read("#EXT-X-GAP\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:00:00.5Z\na.ts\nb.ts")
    assert (first.gap, second.gap) == (True, False)
    assert first.date is not None
    assert (first.date.isoformat(), second.date) == ("2026-11-22T10:00:00.500000+00:00", None)


def test_variables_in_a_playlist_are_replaced_by_their_values() -> None:
    text = '#EXT-X-DEFINE:NAME="dir",VALUE="a/b"\n#EXT-X-DEFINE:QUERYPARAM="token"\n'
    found = read(text + '#EXT-X-MAP:URI="{$dir}/i.mp4"\n{$dir}/one.ts?{$token}&{other}')
    assert paths(found) == ["a/b/i.mp4", "a/b/one.ts?1&{other}"]


def test_references_to_variables_stay_unchanged_if_the_playlist_defines_no_variables() -> None:
    assert paths(read("{$dir}/one.ts")) == ["{$dir}/one.ts"]


@pytest.mark.parametrize(
    "text",
    [
        '#EXT-X-DEFINE:IMPORT="a"',
        '#EXT-X-DEFINE:NAME="a"',
        '#EXT-X-DEFINE:QUERYPARAM="nothing"',
        '#EXT-X-DEFINE:NAME="b",VALUE="1"',
    ],
)
def test_a_uri_with_an_undefined_variable_is_refused_but_other_lines_with_one_are_ignored(text: str) -> None:
    assert paths(read(f"{text}\n# {{$a}}\n#EXT-X-OTHER:{{$a}}\none.ts")) == ["one.ts"]
    for use in ("{$a}.ts", '#EXT-X-MAP:URI="{$a}"', '#EXT-X-KEY:METHOD=AES-128,URI="{$a}"'):
        with pytest.raises(UpstreamFailed, match="variable"):
            read(f"{text}\n{use}\none.ts")


def test_a_master_playlist_is_recognised_even_if_its_variables_have_no_values() -> None:
    """Variables in a master playlist are replaced later, in the URI of the variant that `master.py` chooses."""
    playlist = MediaPlaylist(BASE, Rules())
    define, variant = '#EXT-X-DEFINE:NAME="a",VALUE="1"', '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="{$x}"'
    assert read_with(playlist, f'{define}\n#EXT-X-MEDIA:URI="{{$x}}"\n{variant}\n{{$y}}.m3u8') == []
    assert playlist.is_master


def test_a_line_that_becomes_too_long_when_its_variables_are_replaced_is_refused() -> None:
    define = f'#EXT-X-DEFINE:NAME="a",VALUE="{"x" * 8000}"\n'
    with pytest.raises(TooLarge):
        read(define + "{$a}" * 5000)
    with pytest.raises(TooLarge):
        read(define * 2)


@pytest.mark.parametrize(
    "line",
    [
        '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"',
        '#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT="com.microsoft.playready",URI="x"',
        '#EXT-X-KEY:METHOD=AES-128,URI="x",KEYFORMAT="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"',
        "#EXT-X-FAXS-CM:URI",
        '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k",KEYFORMAT="identity"',
        '#EXT-X-KEY:URI="k",METHOD=SAMPLE-AES',
        '#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI="k"',
    ],
)
def test_a_playlist_with_drm_tags_is_refused_as_drm_protected(line: str) -> None:
    with pytest.raises(DrmProtected):
        read(line + "\none.ts")


@pytest.mark.parametrize(
    "text",
    [
        "#EXT-X-KEY:METHOD=AES-128",
        '#EXT-X-KEY:URI="k"',
        '#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/passwd"',
        '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x' + "0" * 33,
        '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xno',
        "#EXT-X-MAP:BYTERANGE=1",
        '#EXT-X-MAP:URI=""',
        '#EXT-X-MAP:URI="i.mp4",BYTERANGE="x@1"',
        "#EXT-X-BYTERANGE:0@5",
        "#EXT-X-BYTERANGE:-5",
        "#EXT-X-BYTERANGE:" + "9" * 5000,
        "file:///etc/passwd",
        "ftp://media.example/a.ts",
        "http://[/a.ts",
        "http://media.example:port/a.ts",
    ],
)
def test_an_invalid_tag_or_uri_is_refused(text: str) -> None:
    with pytest.raises(UpstreamFailed):
        read(text + "\none.ts")


IDENTITY = '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1'
WIDEVINE = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="x",KEYFORMAT="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"'
FAIRPLAY = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery",KEYFORMATVERSIONS="1"'
PLAYREADY = '#EXT-X-KEY:METHOD=AES-128,URI="data:,x",KEYFORMAT="com.microsoft.playready"'
OTHER = '#EXT-X-KEY:METHOD=AES-128,URI="o",KEYFORMAT="com.example.keys",IV=0x1'
CLEAR = "#EXT-X-KEY:METHOD=NONE"


@pytest.mark.parametrize(
    ("tags", "keys"),
    [
        ((IDENTITY, WIDEVINE, "0.ts"), ["k"]),
        ((FAIRPLAY, WIDEVINE, PLAYREADY, IDENTITY + ',KEYFORMAT="identity"', "0.ts", "1.ts"), ["k", "k"]),
        ((IDENTITY, OTHER, "0.ts", OTHER.replace('"o"', '"p"'), "1.ts"), ["k", "k"]),
        ((IDENTITY, WIDEVINE, "0.ts", IDENTITY.replace('"k"', '"l"'), "1.ts"), ["k", "l"]),
        ((OTHER, WIDEVINE, "0.ts"), ["o"]),
        ((FAIRPLAY, "#EXT-X-GAP", "0.ts", CLEAR, "1.ts"), [None, None]),
        ((WIDEVINE, CLEAR, "0.ts"), [None]),
        (("0.ts", FAIRPLAY), [None]),
    ],
    ids=["identity first", "last", "unknown", "the next key", "no identity", "only gaps", "no segment", "at the end"],
)
def test_a_segment_is_decrypted_with_the_key_of_a_known_key_format_if_it_has_keys_of_several_formats(
    tags: tuple[str, ...], keys: list[str | None]
) -> None:
    uris = [segment.encryption and segment.encryption.uri.rpartition("/")[2] for segment in read("\n".join(tags))]
    assert uris == keys


@pytest.mark.parametrize(
    "tags",
    [(IDENTITY, CLEAR, WIDEVINE), (WIDEVINE, PLAYREADY), (IDENTITY.replace("AES-128", "SAMPLE-AES"), WIDEVINE)],
)
def test_a_segment_that_has_no_usable_key_in_any_key_format_is_drm_protected(tags: tuple[str, ...]) -> None:
    with pytest.raises(DrmProtected):
        read("\n".join([*tags, "0.ts"]))


def test_a_master_playlist_needs_drm_if_all_of_its_session_keys_do() -> None:
    def needs_drm(*keys: str) -> bool:
        playlist = MediaPlaylist(BASE, Rules())
        tags = [key.replace("X-KEY", "X-SESSION-KEY") for key in keys]
        read_with(playlist, "\n".join([*tags, "#EXT-X-STREAM-INF:BANDWIDTH=1", "low.m3u8"]))
        return playlist.needs_drm

    assert needs_drm(FAIRPLAY)
    assert needs_drm(FAIRPLAY, WIDEVINE)
    assert not needs_drm(IDENTITY)
    assert not needs_drm(FAIRPLAY, IDENTITY)
    assert not needs_drm()


@pytest.mark.parametrize(
    "attributes",
    [
        'METHOD=AES-128 , URI="k" , IV=0x1',
        'METHOD = AES-128,URI = "k",IV = 0x1',
        ' METHOD=AES-128,\tURI\t="k",IV=0x1 ',
        'METHOD="AES-128",URI=k ,IV="0x1"',
    ],
)
def test_white_space_in_an_attribute_list_is_ignored(attributes: str) -> None:
    (segment,) = read(f"#EXT-X-KEY:{attributes}\none.ts")
    assert segment.encryption is not None
    assert segment.encryption.uri == "https://media.example/film/k"
    assert segment.encryption.iv == bytes(15) + b"\x01"


SLOPPY = [
    ("", None), ("   ", None), ("many", None), ("-3", None), ("9" * 30, None), ("NaN", None),
    pytest.param("9" * 4000, None, id="4,000 digits"),
    ("5.0", 5), (" 5", 5), ("5,", 5), ("5 # first", 5), ("+5", 5), ("05", 5), ("5;x=1", 5),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), SLOPPY)
def test_an_invalid_media_sequence_number_is_read_as_players_read_it(text: str, number: int | None) -> None:
    playlist = MediaPlaylist(BASE, Rules())
    head = f"#EXT-X-MEDIA-SEQUENCE:{text}\n#EXT-X-DISCONTINUITY-SEQUENCE:{text}\n"
    found = read_with(playlist, head + "a.ts\nb.ts\n#EXT-X-ENDLIST")
    assert paths(found) == ["a.ts", "b.ts"]
    assert [segment.number for segment in found] == [number or 0, (number or 0) + 1]
    assert playlist.has_sequence == (number is not None)


def test_a_segment_whose_iv_derives_from_an_invalid_media_sequence_number_is_refused() -> None:
    key = '#EXT-X-KEY:METHOD=AES-128,URI="k"'
    for text in ("", "-3", "9" * 30):
        head = f"#EXT-X-MEDIA-SEQUENCE:{text}\n"
        with pytest.raises(UpstreamFailed, match="media sequence number"):
            read(f"{head}{key}\na.ts")
        assert len(read(f"{head}{key},IV=0x1\na.ts")) == 1
    (segment,) = read(f"#EXT-X-MEDIA-SEQUENCE:5.0\n{key}\na.ts")
    assert segment.encryption is not None
    assert segment.encryption.iv[-1] == 5


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("seg\\1.ts", "https://media.example/film/seg/1.ts"),
        ("..\\a\\.\\1.ts", "https://media.example/a/1.ts"),
        ("\\a\\1.ts", "https://media.example/a/1.ts"),
        ("\\\\cdn.example\\1.ts", "https://cdn.example/1.ts"),
        ("https:\\\\cdn.example\\a\\1.ts", "https://cdn.example/a/1.ts"),
        ("https://cdn.example/a\\1.ts", "https://cdn.example/a/1.ts"),
        ("a\\1.ts?p=b\\c", "https://media.example/film/a/1.ts?p=b\\c"),
        ("1.ts?p=b\\c", "https://media.example/film/1.ts?p=b\\c"),
        ("a%5C1.ts", "https://media.example/film/a%5C1.ts"),
        ("a//1.ts", "https://media.example/film/a//1.ts"),
    ],
)
def test_backslashes_in_the_path_of_a_uri_count_as_slashes(reference: str, url: str) -> None:
    assert [segment.url for segment in read(reference)] == [url]
    assert next(segment.url for segment in read(f'#EXT-X-MAP:URI="{reference}"\n1.m4s')) == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('#EXT-X-MAP:URI="i.mp4"\n#EXT-X-GAP\na.m4s\n#EXT-X-ENDLIST', ["a.m4s"]),
        ('#EXT-X-MAP:URI="x.mp4"\n#EXT-X-GAP\na.m4s\n#EXT-X-MAP:URI="i.mp4"\nb.m4s', ["a.m4s", "i.mp4", "b.m4s"]),
        ('#EXT-X-MAP:URI="i.mp4"\n#EXT-X-GAP\na.m4s\nb.m4s', ["a.m4s", "i.mp4", "b.m4s"]),
        ('#EXT-X-MAP:URI="i.mp4"\na.m4s\n#EXT-X-MAP:URI="x.mp4"\n#EXT-X-GAP\nb.m4s\n#EXT-X-MAP:URI="i.mp4"\nc.m4s',
         ["i.mp4", "a.m4s", "b.m4s", "c.m4s"]),
        ('#EXT-X-MAP:URI="i.mp4"\na.m4s\n#EXT-X-MAP:URI="x.mp4"', ["i.mp4", "a.m4s"]),
        ('#EXT-X-MAP:URI="x.mp4"\n#EXT-X-MAP:URI="i.mp4"\na.m4s', ["i.mp4", "a.m4s"]),
    ],
    ids=["only gaps", "a gap before", "a gap first", "a gap between", "at the end", "two tags"],
)  # fmt: skip
def test_an_initialization_section_is_listed_only_if_a_segment_needs_it(text: str, expected: list[str]) -> None:
    found = read(text)
    assert paths(found) == expected
    assert all(each.number == after.number for each, after in pairwise(found) if each.initial)


def test_an_initialization_section_also_applies_to_the_segments_after_a_discontinuity() -> None:
    text = '#EXT-X-MAP:URI="i.mp4"\na.m4s\n#EXT-X-DISCONTINUITY\nb.m4s'
    assert paths(read(text, discontinuity=1)) == ["i.mp4", "b.m4s"]


@pytest.mark.parametrize("method", ["AES-256", "AES-256-GCM", "AES-128-CTR", "X" * 500, "<b>"])
def test_the_error_for_an_unsupported_encryption_method_contains_its_name(method: str) -> None:
    with pytest.raises(UnsupportedConversion, match="only AES-128 can be decrypted") as caught:
        read(f'#EXT-X-KEY:METHOD={method},URI="k"\none.ts')
    assert len(str(caught.value)) < 100
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("padding", ["\0" * 100, " \0 ", "\0\n\0"])
def test_padding_after_the_last_line_of_a_playlist_is_not_a_segment(padding: str) -> None:
    assert paths(read("one.ts\n#EXT-X-ENDLIST\n" + padding)) == ["one.ts"]


@pytest.mark.parametrize("line", ["<!DOCTYPE html>", "one.ts", '{"error": 404}', "EXTM3U"])
def test_a_playlist_without_the_extm3u_tag_is_refused(line: str) -> None:
    with pytest.raises(UpstreamFailed, match="did not return an HLS playlist"):
        MediaPlaylist(BASE, Rules()).feed(line)


@pytest.mark.parametrize(
    "head",
    ["\ufeff#EXTM3U", "\n  \n#EXTM3U", "# made by hand\n#EXTM3U", '#EXTM3U url-tvg="https://tv.example/guide.xml"',
     "#EXTM3U:", " #EXTM3U ", "\ufeff\n\ufeff#EXTM3U"],
)  # fmt: skip
def test_malformed_tags_that_players_tolerate_are_accepted(head: str) -> None:
    playlist = MediaPlaylist(BASE, Rules())
    text = f"{head}\n#EXTINF:\none.ts\n#EXTINF\ntwo.ts\n#EXTINF:-1,Title\nthree.ts\n#EXT-X-TARGETDURATION:"
    found = [segment for line in text.splitlines() for segment in playlist.feed(line)]
    assert [segment.duration for segment in found] == [None, None, None]
    assert paths(found) == ["one.ts", "two.ts", "three.ts"]
    assert playlist.target_seconds is None


def test_a_segment_marked_as_a_gap_adds_no_bytes_to_the_length_of_the_playlist() -> None:
    playlist = MediaPlaylist(BASE, Rules())
    ranges = "#EXT-X-BYTERANGE:10@0\na.ts\n#EXT-X-GAP\nb.ts\n#EXT-X-GAP\n#EXT-X-BYTERANGE:7@3\nc.ts"
    assert [segment.gap for segment in read_with(playlist, ranges)] == [False, True, True]
    assert (playlist.length, playlist.end_number) == (10, 3)


def test_the_number_of_segments_in_a_playlist_is_limited() -> None:
    playlist = MediaPlaylist(BASE, Rules())
    playlist.feed("#EXTM3U")
    for number in range(MAX_SEGMENTS):
        assert playlist.feed(str(number))
    with pytest.raises(TooLarge):
        playlist.feed("one more")


TAGS = [
    "#EXTINF:", "#EXT-X-BYTERANGE:", "#EXT-X-DISCONTINUITY", "#EXT-X-KEY:METHOD=AES-128,URI=", "#EXT-X-KEY:METHOD=NONE",
    '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=', "#EXT-X-MAP:", '#EXT-X-MAP:URI="i",BYTERANGE=', "#EXT-X-MEDIA-SEQUENCE:",
    "#EXT-X-PROGRAM-DATE-TIME:", "#EXT-X-GAP", "#ANVATO-SEGMENT-INFO:type=ad", '#EXT-X-DEFINE:NAME="a",VALUE=',
    "#EXT-X-TARGETDURATION:",
    "#EXT-X-ENDLIST", "https://", "//", "",
]  # fmt: skip
LINES = st.lists(st.builds(str.__add__, st.sampled_from(TAGS), st.text(max_size=30) | st.integers().map(str)))


@settings(deadline=None)
@given(LINES, st.none() | st.integers(0, 3), st.none() | st.text(max_size=20))
def test_any_lines_are_either_parsed_to_segments_or_raise_an_error_of_serverpy(
    lines: list[str], index: int | None, query: str | None
) -> None:
    playlist = MediaPlaylist(BASE, Rules(discontinuity=index, segment_query=query))
    try:
        found = [segment for line in ["#EXTM3U", *lines] for segment in playlist.feed(line)]
    except ServerPYError:
        return
    assert playlist.count == len(found)
    for segment in found:
        assert segment.url.startswith(("http://", "https://"))
        assert segment.first >= 0
        assert segment.end is None or segment.first < segment.end
        assert segment.encryption is None or len(segment.encryption.iv) == 16
