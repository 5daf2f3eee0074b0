"""Tests that the worker returns the same formats of a DASH manifest as yt-dlp, but with segments from ServerPY's own
parser."""

# ruff: noqa: E501  # elements of a manifest are easier to read on one long line

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor

from serverpy.errors import ServerPYError, TooLarge, UnsupportedConversion
from serverpy.extraction.values import Fragment
from serverpy.ytdlp.mpd.addresses import Pattern
from serverpy.ytdlp.mpd.formats import REFUSAL, Fragments, document_url, entries, merged
from serverpy.ytdlp.mpd.listing import NOTHING, Listing, Part, Templated
from serverpy.ytdlp.mpd.timelines import Run
from serverpy.ytdlp.page.tracks import tracks_of
from tests.extraction.workers import fails, process_of, reader, running
from tests.streaming.segments.shelf import Shelf
from tests.ytdlp.mpd.listed import BASE, URL, VIDEO, mpd, video

NUMBERED = '<SegmentTemplate initialization="i.mp4" media="$Number$.m4s" duration="2"/>'
DETAILS = (
    '<AdaptationSet mimeType="audio/mp4" lang="en"><Representation id="a" codecs="mp4a.40.2" bandwidth="64000"'
    f' audioSamplingRate="48000">{NUMBERED}</Representation></AdaptationSet>'
    '<AdaptationSet mimeType="video/mp4" frameRate="25"><Representation id="v" codecs="hvc1.1.6.L93" bandwidth="700000"'
    f' width="640" height="360"><BaseURL>v/</BaseURL>{NUMBERED}</Representation></AdaptationSet>'
    '<AdaptationSet mimeType="text/vtt" lang="de"><Representation id="t" bandwidth="1"><BaseURL>t.vtt</BaseURL>'
    "</Representation></AdaptationSet>"
    f'<AdaptationSet mimeType="image/jpeg"><Representation id="s" bandwidth="1">{NUMBERED}</Representation></AdaptationSet>'
)
OURS = {"fragments", "is_dash_periods"}


@pytest.fixture
def extractor() -> Iterator[Any]:
    with YoutubeDL({"quiet": True, "cachedir": False}, auto_init=False) as ydl:
        yield InfoExtractor(ydl)


def formats(extractor: Any, text: str, mpd_url: str | None = URL, id: str | None = None) -> tuple[Any, Any]:
    def parse(copy: ElementTree.Element) -> Any:
        return next(iter(extractor._parse_mpd_periods(copy, id, "", mpd_url)))

    return merged(entries(ElementTree.fromstring(text), document_url(BASE, mpd_url), mpd_url, parse))


@pytest.mark.parametrize("id", [None, "dash"])
def test_all_fields_of_a_dash_format_except_its_segments_equal_those_of_yt_dlp(extractor: Any, id: str | None) -> None:
    text = mpd(f"<Period>{DETAILS}</Period>")
    stock, stock_subtitles = extractor._parse_mpd_formats_and_subtitles(ElementTree.fromstring(text), id, BASE, URL)
    found, subtitles = formats(extractor, text, id=id)
    assert [{key: each[key] for key in each if key not in OURS} for each in found] == [
        {key: each[key] for key in each if key not in OURS} for each in stock
    ]
    assert [len(each["fragments"]) for each in found] == [len(each["fragments"]) for each in stock]
    assert subtitles == stock_subtitles


def test_the_fragments_of_a_dash_format_have_absolute_urls_and_byte_ranges(extractor: Any) -> None:
    ranged = (
        '<SegmentList duration="2"><Initialization sourceURL="f.mp4" range="0-9"/><SegmentURL media="f.mp4"'
        ' mediaRange="10-19"/><SegmentURL media="g.mp4"/></SegmentList>'
    )
    [only], _ = formats(extractor, mpd(f"<Period>{video(ranged)}</Period>"))
    fragments = only["fragments"]
    assert isinstance(fragments, Fragments)
    assert list(fragments) == [
        {"url": f"{BASE}f.mp4", "byte_range": {"start": 0, "end": 10}},
        {"url": f"{BASE}f.mp4", "duration": 2.0, "byte_range": {"start": 10, "end": 20}},
        {"url": f"{BASE}g.mp4", "duration": 2.0},
    ]
    assert (len(fragments), fragments[1:2]) == (3, list(fragments)[1:2])


def test_the_size_of_a_file_in_one_of_two_periods_is_not_used_as_the_size_of_the_format(extractor: Any) -> None:
    sized = '<BaseURL xmlns:yt="http://youtube.com/yt/2012/10/10" yt:contentLength="500">f.mp4</BaseURL>'
    [one], _ = formats(extractor, mpd(f"<Period>{video(sized)}</Period>"))
    [two], _ = formats(extractor, mpd(f'<Period duration="PT2S">{video(sized)}</Period>' * 2, ""))
    assert (one["filesize"], one["url"], one.get("fragments")) == (500, f"{BASE}f.mp4", None)
    assert (two["filesize"], len(two["fragments"])) == (None, 2)


TRICK = '<EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode" value="1"/>'
TILE = '<EssentialProperty schemeIdUri="urn:mpeg:dash:srd:2014" value="0,0,0,1,1,2,2"/>'
COLOUR = '<EssentialProperty schemeIdUri="urn:mpeg:mpegB:cicp:TransferCharacteristics" value="16"/>'


@pytest.mark.parametrize(
    ("in_set", "in_representation", "best"),
    [(TRICK, "", "v"), (TILE, "", "v"), ("", TILE, "v"), ("", TRICK, "v"), (COLOUR, "", "x"), ("", COLOUR, "x")],
)
def test_a_format_with_an_unknown_essential_property_is_never_the_best_format(
    extractor: Any, in_set: str, in_representation: str, best: str
) -> None:
    special = video(in_representation + NUMBERED, id="x", bandwidth=9_000_000)
    special = special.replace("<Representation", f"{in_set}<Representation", 1)
    found, _ = formats(extractor, mpd(f"<Period>{video(NUMBERED)}{special}</Period>"))
    info = {"formats": found}
    extractor._downloader.sort_formats(info)
    assert (len(found), info["formats"][-1]["format_id"]) == (2, best)


def voice(id: str, *roles: str) -> str:
    stated = "".join(f'<Role schemeIdUri="urn:mpeg:dash:role:2011" value="{role}"/>' for role in roles)
    return (
        f'<AdaptationSet mimeType="audio/mp4" lang="{id}">{stated}<Representation id="{id}" codecs="mp4a.40.2"'
        f' bandwidth="64000">{NUMBERED}</Representation></AdaptationSet>'
    )


@pytest.mark.parametrize(
    ("voices", "alternates"),
    [
        ([voice("de", "main"), voice("en")], {"en"}),
        ([voice("en"), voice("de", "main"), voice("fr", "dub")], {"en", "fr"}),
        ([voice("de", "main"), voice("en", "main")], set()),
        ([voice("de"), voice("en")], set()),
        ([voice("de"), voice("en", "commentary")], {"en"}),
        ([voice("de"), voice("en", "main", "commentary")], {"en"}),
        ([voice("de"), video(NUMBERED).replace("<Repr", '<Role value="main"/><Repr')], set()),
    ],
)
def test_audio_without_a_role_is_an_alternate_if_other_audio_is_the_main_audio(
    extractor: Any, voices: list[str], alternates: set[str]
) -> None:
    found, _ = formats(extractor, mpd(f"<Period>{''.join(voices)}</Period>"))
    assert {each["format_id"] for each in found if each.get("source_preference") is not None} == alternates


def test_a_file_with_its_initialization_segment_in_another_file_is_streamed_as_segments(extractor: Any) -> None:
    split = '<BaseURL>f.mp4</BaseURL><SegmentBase><Initialization sourceURL="i.mp4" range="0-9"/></SegmentBase>'
    [only], _ = formats(extractor, mpd(f"<Period>{video(split)}</Period>"))
    assert list(only["fragments"]) == [
        {"url": f"{BASE}i.mp4", "byte_range": {"start": 0, "end": 10}},
        {"url": f"{BASE}f.mp4"},
    ]


def test_a_dash_format_that_is_refused_has_no_segments(extractor: Any) -> None:
    periods = f'<Period duration="PT2S">{video(NUMBERED)}</Period><Period duration="PT2S"/>'
    other = video(NUMBERED).replace("avc1.4d401e", "av01.0.04M.08")
    found, _ = formats(extractor, mpd(f'{periods}<Period duration="PT2S">{other}</Period>', ""))
    assert [(each["format_id"], "fragments" in each, "no video" in each[REFUSAL]) for each in found] == [
        ("v", False, True),
        ("v", False, True),
    ]


@pytest.mark.parametrize(
    ("base", "url", "right"),
    [
        ("https://m.example/d", "https://m.example/d/m.mpd?x=a/b", "https://m.example/d/m.mpd?x=a/b"),
        ("https://m.example/d/", "https://m.example/d/m.mpd", "https://m.example/d/m.mpd"),
        ("https://cdn.example/e", "https://m.example/d/m.mpd", "https://cdn.example/e/"),
        ("https://m.example", "https://m.example/d/m.mpd", "https://m.example/"),
        ("", "https://m.example/d/m.mpd", "https://m.example/d/m.mpd"),
        ("", None, ""),
    ],
)
def test_the_document_url_of_a_manifest_is_derived_from_its_base_url_or_url(
    base: str, url: str | None, right: str
) -> None:
    assert document_url(base, url) == right


# Manifests extracted by a worker


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


def put(shelf: Shelf, text: str) -> str:
    """Serve a manifest from the media server `shelf`. Returns its URL."""
    shelf.files["/d/m.mpd"] = text.encode()
    shelf.headers["/d/m.mpd"] = {"Content-Type": "application/dash+xml"}
    return f"{shelf.url}/d/m.mpd"


async def test_a_worker_requests_a_dash_manifest_once_and_lists_its_segments(shelf: Shelf) -> None:
    numbered = f"<Period>{video(NUMBERED)}</Period>"
    ended = 'availabilityStartTime="2020-01-01T00:00:00Z" mediaPresentationDuration="PT6S"'
    async with running() as workers:
        (track,) = (await workers.extract(put(shelf, mpd(numbered)))).tracks
        assert track.fragments == (
            Fragment(url=f"{shelf.url}/d/i.mp4", initial=True),
            *(Fragment(url=f"{shelf.url}/d/{number}.m4s", duration=2.0) for number in (1, 2, 3)),
        )
        assert len(shelf.targets()) == 1
        (track,) = (await workers.extract(put(shelf, mpd(numbered, ended, kind="dynamic")))).tracks
        assert (len(track.fragments), track.is_live, track.refusal) == (4, False, None)
        (track,) = (
            await workers.extract(put(shelf, mpd(f'<Period duration="PT6S">{video(NUMBERED)}</Period>' * 2000)))
        ).tracks
        assert len(track.fragments) == 2000 * 4


NO_DECLARATION = mpd(f"<Period>{video(NUMBERED)}</Period>").split("?>", 1)[1]


@pytest.mark.parametrize(
    "document",
    [
        b"\xfe\xff" + f'<?xml version="1.0" encoding="UTF-16"?>{NO_DECLARATION}'.encode("utf-16-be"),
        b"\xff\xfe" + f'<?xml version="1.0" encoding="UTF-16"?>{NO_DECLARATION}'.encode("utf-16-le"),
        b"\xfe\xff" + NO_DECLARATION.encode("utf-16-be"),
        b"\xef\xbb\xbf" + NO_DECLARATION.encode(),
        f'\r\n  <?xml version="1.0"?>{NO_DECLARATION}\n'.encode(),
        f'<?xml version="1.0"?>{NO_DECLARATION}'.encode() + bytes(3),
    ],
    ids=[
        "utf-16-be",
        "utf-16-le",
        "utf-16-be without declaration",
        "utf-8 with byte order mark",
        "blank line first",
        "NUL last",
    ],
)
async def test_a_worker_reads_a_dash_manifest_in_any_character_encoding_of_xml(shelf: Shelf, document: bytes) -> None:
    url = put(shelf, "")
    shelf.files["/d/m.mpd"] = document
    async with running() as workers:
        (track,) = (await workers.extract(url)).tracks
        assert len(track.fragments) == 4


async def test_a_worker_continues_to_work_after_hostile_dash_manifests(shelf: Shelf) -> None:
    async with running() as workers:
        process = await process_of(workers)
        before = process.memory_info().rss
        for repeats in (33_688_627, 10**17):
            media = await workers.extract(put(shelf, mpd(f"<Period>{video(repeated(repeats))}</Period>", "")))
            assert media.tracks[0].refusal == "The DASH manifest lists too many segments."
        many = f"<Period><AdaptationSet {VIDEO}>{NUMBERED}{'<Representation/>' * 2000}</AdaptationSet></Period>"
        assert type(await fails(workers, put(shelf, mpd(many)))) is TooLarge
        entities = '<!DOCTYPE MPD [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        text = mpd(f"<Period>{video(NUMBERED)}</Period>").replace("<MPD", f"{entities}<MPD", 1)
        assert isinstance(await fails(workers, put(shelf, text)), ServerPYError)
        assert process.memory_info().rss < before + 100 * 1024 * 1024
        assert (await process_of(workers)).pid == process.pid


def repeated(times: int) -> str:
    return (
        f'<SegmentTemplate media="$Time$"><SegmentTimeline><S d="2" r="{times}"/></SegmentTimeline></SegmentTemplate>'
    )


async def test_embedded_downloads_formats_with_byte_ranges_and_refuses_formats_without_segments(shelf: Shelf) -> None:
    shelf.files["/d/f.mp4"] = bytes(range(100))
    ranged = '<SegmentList><SegmentURL media="f.mp4" mediaRange="0-9"/><SegmentURL media="f.mp4" mediaRange="14-63"/>'
    sets = video(f"{ranged}</SegmentList>", id="good"), video("", id="bad")
    async with running() as workers:
        media = await workers.extract(put(shelf, mpd(f"<Period>{''.join(sets)}</Period>")))
        assert {track.id: track.refusal for track in media.tracks} == {"good": None, "bad": NOTHING}
        reading, writing = os.pipe()
        download = await workers.download(media.raw_id, "good", writing)
        assert await asyncio.to_thread(reader(reading)) == bytes([*range(10), *range(14, 64)])
        await download.wait()
        reading, writing = os.pipe()
        with pytest.raises(UnsupportedConversion):
            await (await workers.download(media.raw_id, "bad", writing)).wait()
        os.close(reading)


def test_if_a_page_has_too_many_segments_only_the_best_formats_keep_their_segments() -> None:
    part = Part(None, Templated(Pattern("https://m.example/%d", ("Number",)), 1, 1, (Run(0, 0, 1, 90_000),)))
    fmt = {"url": URL, "protocol": "http_dash_segments", "fragments": Fragments(Listing((part,)))}
    tracks = list(
        tracks_of({"formats": [{**fmt, "format_id": str(number)} for number in range(4)]}, lambda _wish: None)
    )
    assert [len(track.fragments) for track in tracks] == [0, 0, 90_000, 90_000]
    assert [track.fragments_dynamic for track in tracks] == [True, True, False, False]
