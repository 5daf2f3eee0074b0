"""Tests of mapping yt-dlp's dictionaries to values that the worker can send to the server, whatever the dictionaries
contain."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar
from typing import Any

import msgspec
import pytest

from serverpy.extraction import messages
from serverpy.extraction.messages import Extracted
from serverpy.extraction.values import AesKey, Fragment, Media, Track
from serverpy.ytdlp.page.media import media_of

URL = "https://media.example/film.mp4"


def found(info: dict[str, Any], jar: CookieJar | None = None) -> Media:
    base = {"id": "1", "title": "Film", "extractor": "site", "webpage_url": "https://site.example/1"}
    media = media_of({**base, **info}, "raw-1", jar or CookieJar(), lambda wish: str(wish) if wish else None)
    reply = messages.decode_reply(messages.encode(Extracted(id=1, media=media))[4:])
    assert isinstance(reply, Extracted)
    assert reply.media == media
    return media


def track(fmt: dict[str, Any], **info: Any) -> Track:
    [only] = found(
        {"formats": [{"format_id": "f", "url": URL, "protocol": "https", "ext": "mp4", **fmt}], **info}
    ).tracks
    return only


def cookie(name: str, domain: str, expires: int | None = None) -> Cookie:
    return Cookie(
        0,
        name,
        "v",
        None,
        False,
        domain,
        True,
        domain.startswith("."),
        "/",
        True,
        False,
        expires,
        False,
        None,
        None,
        {},
    )


def test_every_field_of_a_format_that_the_server_needs_is_mapped() -> None:
    got = track(
        {
            "vcodec": "avc1",
            "acodec": "none",
            "width": 640,
            "height": 360.0,
            "fps": "29.97",
            "tbr": 1000,
            "filesize_approx": 5,
            "http_headers": {"Referer": "https://site.example/", "Cookie": "no"},
            "request_data": b"\xffx",
            "impersonate": "chrome",
            "downloader_options": {"http_chunk_size": 1000},
            "manifest_url": "https://media.example/m.m3u8",
            "hls_media_playlist_data": "#EXTM3U",
            "extra_param_to_segment_url": "a=1",
            "extra_param_to_key_url": "k=1",
            "hls_aes": {"uri": "https://key.example/", "iv": "0x1"},
            "format_index": 2,
            "no_resume": True,
            "available_at": 12.5,
            "is_from_start": True,
            "container": "mp4_dash",
            "language": "de",
            "language_preference": -10,
            "source_preference": -2,
            "format_note": "note",
        },
        is_live=True,
    )
    assert got == Track(
        id="f",
        url=URL,
        protocol="https",
        ext="mp4",
        container="mp4_dash",
        vcodec="avc1",
        acodec=None,
        width=640,
        height=360,
        fps=29.97,
        bitrate=1000.0,
        size=5,
        size_exact=False,
        language="de",
        language_preference=-10,
        note="note",
        is_live=True,
        is_from_start=True,
        available_at=12.5,
        headers={"Referer": "https://site.example/"},
        request_data="\xffx",
        impersonate="chrome",
        http_chunk_size=1000,
        manifest_url="https://media.example/m.m3u8",
        manifest_data="#EXTM3U",
        segment_query="a=1",
        key_query="k=1",
        aes=AesKey(uri="https://key.example/", iv="0x1"),
        discontinuity=2,
        no_resume=True,
        details='{"language_preference":-10,"source_preference":-2}',
    )


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        ({"vcodec": "none", "source_preference": -2}, True),
        ({"vcodec": "none", "source_preference": -1}, False),
        ({"vcodec": "none"}, False),
        ({"vcodec": "avc1", "source_preference": -2}, False),
    ],
)
def test_audio_that_its_playlist_does_not_prefer_is_marked_as_alternate(fmt: dict[str, Any], expected: bool) -> None:
    assert track(fmt).is_alternate is expected


def test_fragments_are_mapped_to_absolute_urls_or_marked_as_dynamic() -> None:
    listed = track(
        {"fragments": [{"path": "1.m4s", "duration": 2}, {"url": URL}], "fragment_base_url": "https://x.example/d/"}
    )
    assert listed.fragments == (Fragment(url="https://x.example/d/1.m4s", duration=2.0), Fragment(url=URL))
    assert not listed.fragments_dynamic
    unlisted: tuple[Any, ...] = (iter([{"url": URL}]), lambda ctx: [], [{"nothing": 1}])
    for dynamic in unlisted:
        assert track({"fragments": dynamic}).fragments_dynamic


@pytest.mark.parametrize(
    ("fmt", "needed"),
    [
        ({}, False),
        ({"protocol": "m3u8_native"}, False),
        ({"protocol": "http_dash_segments_generator"}, False),
        ({"protocol": "ism"}, True),
        ({"protocol": "mhtml"}, True),
        ({"_bunnycdn_ping_data": {"url": "x"}}, True),
        ({"downloader_options": {"ws": object()}}, True),
    ],
)
def test_a_track_that_only_yt_dlp_can_download_is_marked(fmt: dict[str, Any], needed: bool) -> None:
    assert track(fmt).needs_ytdlp is needed


@pytest.mark.parametrize(
    ("fmt", "codecs"),
    [
        ({"vcodec": "none", "acodec": "opus"}, (None, "opus")),
        ({}, ("unknown", "unknown")),
        ({"ext": "mp3"}, (None, "unknown")),
        ({"ext": "jpg"}, (None, None)),
    ],
)
def test_the_codec_of_a_missing_audio_or_video_stream_is_none_and_that_of_an_unidentified_one_is_unknown(
    fmt: dict[str, Any], codecs: tuple[str | None, str | None]
) -> None:
    got = track(fmt)
    assert (got.vcodec, got.acodec) == codecs


def test_a_field_with_a_value_of_the_wrong_type_is_none_and_a_format_without_a_url_is_skipped() -> None:
    odd = {"width": "wide", "height": float("inf"), "fps": [], "filesize": 10**30, "language": {}, "http_headers": "x"}
    got = track({**odd, "tbr": float("nan"), "format_note": "\ud800", "hls_aes": 1, "downloader_options": 1})
    assert (got.width, got.height, got.fps, got.size, got.language, got.headers) == (None, None, None, None, None, {})
    assert got.note == "?"
    media = found(
        {"formats": [{"format_id": "x"}, {"url": b"x"}, None], "duration": "long", "thumbnails": [], "subtitles": 1}
    )
    assert (media.tracks, media.duration, media.thumbnail) == ((), None, None)


def test_a_result_without_a_list_of_formats_is_itself_mapped_as_the_only_format() -> None:
    [only] = found({"format_id": "0", "url": URL, "ext": "mp4", "protocol": "https"}).tracks
    assert only.id == "0"


def test_the_date_and_time_that_yt_dlp_appends_to_a_live_title_are_removed() -> None:
    media = found({"is_live": True, "title": "News 2026-11-22 12:00", "fulltitle": "News"})
    assert (media.kind, media.title) == ("live", "News")


def test_an_entry_of_a_playlist_is_mapped_with_its_url_or_its_media() -> None:
    playlist = found(
        {
            "_type": "playlist",
            "entries": [
                {"_type": "url", "url": "bare-id", "webpage_url": "https://site.example/2", "title": "Two"},
                {"id": "3", "title": "Three", "url": URL, "ext": "mp4", "webpage_url": "https://site.example/3"},
                None,
            ],
        }
    )
    assert (playlist.kind, playlist.tracks) == ("playlist", ())
    first, second, third = playlist.entries
    assert (first.url, first.media) == ("https://site.example/2", None)
    assert second.media is not None
    assert (second.media.raw_id, second.media.tracks[0].url) == ("raw-1.2", URL)
    assert (third.url, third.media) == (None, None)


@pytest.mark.parametrize(
    ("title", "id", "old_ids", "expected"),
    [
        ("Film (1)", "film-1", ["generic film"], "Film"),
        ("Film (1) (1)", "film-1", ["generic film"], "Film (1)"),
        ("Film", "film-1", ["generic film"], "Film"),
        ("Film (1)", "film-1", ["generic film-1"], "Film (1)"),
        ("Film (2)", "film-2", ["generic film-2"], "Film (2)"),
        ("Film (1)", "film", ["generic film"], "Film (1)"),
        ("Film (1)", "film-1", None, "Film (1)"),
        ("Film (1)", None, ["generic film"], "Film (1)"),
        (" (1)", "film-1", ["generic film"], "film-1"),
    ],
)
def test_the_number_that_yt_dlp_adds_to_the_title_of_the_only_medium_on_a_page_is_removed(
    title: str, id: str | None, old_ids: list[str] | None, expected: str
) -> None:
    assert found({"id": id, "title": title, "_old_archive_ids": old_ids}).title == expected


def test_subtitles_are_mapped_with_their_url_or_their_text_as_a_data_url() -> None:
    captions = [{"url": "https://x.example/a.vtt", "ext": "vtt"}, {"url": "https://x.example/a.json3", "ext": "json3"}]
    media = found({"subtitles": {"en": [{"data": "WEBVTT", "ext": "vtt"}]}, "automatic_captions": {"de": captions}})
    assert [(each.language, each.ext, each.automatic) for each in media.subtitles] == [
        ("en", "vtt", False),
        ("de", "vtt", True),
    ]
    assert media.subtitles[0].url == "data:text/plain;charset=utf-8;base64,V0VCVlRU"


def test_only_cookies_that_match_the_urls_of_the_media_are_sent_to_the_server() -> None:
    jar = CookieJar()
    for each in (
        cookie("host", "media.example"),
        cookie("site", ".site.example"),
        cookie("other", "other.example"),
        cookie("narrow", "sub.media.example"),
        cookie("old", "media.example", expires=1),
        cookie("local", "localhost.local"),
    ):
        jar.set_cookie(each)
    formats = [{"url": URL, "format_id": "a"}, {"url": "http://localhost:1/x", "format_id": "b"}]
    media = found({"formats": formats, "webpage_url": "https://www.site.example/1"}, jar)
    assert {(each.name, each.domain) for each in media.cookies} == {
        ("host", "media.example"),
        ("site", ".site.example"),
        ("local", "localhost"),
    }


def test_media_expires_when_the_first_of_its_urls_expires() -> None:
    import time

    soon = int(time.time()) + 1000
    formats = [{"url": f"{URL}?expire={soon + at}", "format_id": str(at)} for at in (50, 0, 100)]
    assert found({"formats": formats}).expires == soon
    assert found({"formats": [{"url": URL}]}).expires is None


def test_decoding_a_reply_with_invalid_media_raises_an_error() -> None:
    body = msgspec.json.encode({"type": "Extracted", "id": 1, "media": {"raw_id": 1}})
    with pytest.raises(msgspec.ValidationError):
        messages.decode_reply(body)


BAD = ("http://[x/a.vtt", "https://media.example:99999/a", "http://media.example:port/a", "http://a\u2100b/")


@pytest.mark.parametrize("bad", BAD)
def test_a_field_with_an_invalid_url_is_removed_and_all_other_fields_are_kept(bad: str) -> None:
    jar = CookieJar()
    jar.set_cookie(cookie("host", "media.example"))
    fine = {"url": URL, "format_id": "a"}
    media = found(
        {
            "formats": [fine, {"url": bad, "format_id": "b"}, {**fine, "manifest_url": bad, "hls_aes": {"uri": bad}}],
            "subtitles": {"en": [{"url": bad, "ext": "vtt"}, {"url": "https://x.example/a.vtt", "ext": "vtt"}]},
            "thumbnail": bad,
            "thumbnails": [{"url": "https://x.example/a.jpg"}],
            "original_url": bad,
        },
        jar,
    )
    assert [each.url for each in media.tracks] == [URL, URL]
    assert (media.tracks[1].manifest_url, media.tracks[1].aes) == (None, AesKey())
    assert [each.url for each in media.subtitles] == ["https://x.example/a.vtt"]
    assert media.thumbnail == "https://x.example/a.jpg"
    assert [each.name for each in media.cookies] == ["host"]
    assert found({"webpage_url": bad, "thumbnail": bad}).webpage_url == ""
    [entry] = found({"_type": "playlist", "entries": [{"_type": "url", "url": bad, "title": "One"}]}).entries
    assert (entry.title, entry.url) == ("One", None)


@pytest.mark.parametrize(
    ("pieces", "base"), [([{"url": BAD[0]}], URL), ([{"path": "1"}], BAD[0]), ([{"path": "http://[x/"}], URL)]
)
def test_fragments_without_a_valid_url_are_marked_as_dynamic(pieces: list[dict[str, str]], base: str) -> None:
    assert track({"fragments": pieces, "fragment_base_url": base}).fragments_dynamic


@pytest.mark.parametrize(
    ("ext", "kept"),
    [
        ("mp4", "mp4"),
        ("M4A", "m4a"),
        ("mp4\r\nX-Evil: 1", "unknown_video"),
        ('mp4"', "unknown_video"),
        ("../mp4", "unknown_video"),
        ("ü", "unknown_video"),
        ("x" * 17, "unknown_video"),
        ("mp4\n", "unknown_video"),
        (None, "unknown_video"),
    ],
)
def test_the_extension_of_a_format_contains_only_letters_and_digits(ext: str | None, kept: str) -> None:
    assert track({"ext": ext}).ext == kept


def test_the_extension_of_subtitles_contains_only_letters_and_digits() -> None:
    files = [{"url": URL, "ext": "ttml"}, {"url": URL, "ext": "vtt\r\n"}]
    assert [each.ext for each in found({"subtitles": {"en": files}}).subtitles] == ["ttml", "vtt"]


def test_lone_surrogates_in_the_value_of_a_cookie_are_replaced() -> None:
    jar = CookieJar()
    odd = cookie("name\ud800", "media.example")
    odd.value, odd.path = "\udfff", "/\ud800"
    jar.set_cookie(odd)
    [crossed] = found({"formats": [{"url": URL, "format_id": "a"}]}, jar).cookies
    assert (crossed.name, crossed.value, crossed.path) == ("name?", "?", "/?")
