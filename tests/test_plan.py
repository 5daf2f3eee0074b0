"""Tests of the rules in plan.py, as a table: the plans that a request gets, the requests that are refused, and what a
plan promises about the response."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from serverpy.containers import MP4
from serverpy.default_choice import Candidate, Wish, best_audio_first, ranked
from serverpy.errors import (
    DrmProtected,
    FormatNotFound,
    InvalidParameter,
    ServerPYError,
    TooLarge,
    UnsupportedConversion,
)
from serverpy.extraction.choice import is_seekable
from serverpy.extraction.values import Media, Track
from serverpy.plan import After, Capabilities, Capability, Plan, StreamRequest, check, needs_selection, plans

MASTER = "https://example.com/master.m3u8"
HLS = {"protocol": "m3u8_native", "manifest_url": MASTER}


def track(id: str, height: int | None = None, *, ext: str = "mp4", protocol: str = "https", **fields: Any) -> Track:
    values: dict[str, Any] = {"vcodec": "avc1" if height else None, "height": height, **fields}
    return Track(id=id, url=f"https://example.com/{id}", protocol=protocol, ext=ext, **values)


def film(id: str, height: int, **fields: Any) -> Track:
    """Return a track that contains video and audio."""
    return track(id, height, **{"acodec": "mp4a", **fields})


def audio(id: str = "audio", **fields: Any) -> Track:
    return track(id, None, **{"acodec": "mp4a", "ext": "m4a", **fields})


def media(*tracks: Track, duration: float | None = None) -> Media:
    return Media(
        raw_id="1", id="1", title="A film", kind="video", extractor="X", webpage_url="https://example.com",
        tracks=tracks, duration=duration,
    )  # fmt: skip


def capability(opener: str, method: str, nbytes: int, carries: Any, **fields: Any) -> Capability:
    return Capability(
        opener=opener, method=method, stream_bytes=nbytes, carries=carries, bytes_for=lambda _: nbytes, **fields
    )


SEGMENTS = ("m3u8_native", "http_dash_segments")
CAPABILITIES = Capabilities(
    openers=(
        capability("relay", "relay", 100, lambda t: t.protocol in ("https", *SEGMENTS), seeks=True, starts_live=True),
        capability(
            "weave", "relay", 400, lambda t: is_seekable(t) and t.ext in ("mp4", "m4a"), seeks=True, merges=True
        ),
        capability(
            "merge",
            "relay",
            500,
            lambda t: t.protocol in SEGMENTS and t.ext in ("mp4", "m4a"),
            merges=True,
            family=lambda t: t.protocol,
        ),
        capability("embedded", "embedded", 300, lambda t: t.protocol != "rtmp"),
        capability("subprocess", "subprocess", 200, lambda t: True, automatic=False, extracts=True),
        capability(
            "redirect", "redirect", 50, lambda t: is_seekable(t) and not t.headers, automatic=False, redirects=True
        ),
    ),
    max_duration=60,
)


@dataclass(frozen=True)
class Case:
    """A row of the table. `expected` is the class of the expected error, or the list of expected plans as `opener:ids`.
    The list leaves out the plan that fallback.py adds."""

    fact: str
    tracks: tuple[Track, ...]
    expected: list[str] | type[ServerPYError]
    request: dict[str, Any] = field(default_factory=dict)
    duration: float | None = None

    def __str__(self) -> str:
        return self.fact


UNKNOWN = film("hls", 720, acodec="unknown", **HLS)
"""An HLS variant for which the playlist states no audio codec."""
MUTE = replace(UNKNOWN, is_audio_apart=True)
DASH = {"protocol": "http_dash_segments"}
LANGUAGES = tuple(audio(name, language=name, **DASH) for name in ("fr-CA", "en", "de", "de-AT"))
FILMS = audio(), track("720", 720), track("vp9", 720, ext="webm"), film("drm", 720, has_drm=True)

CASES = [
    # Requests without parameters
    Case("a pair of greater height, then the film", (audio(), film("360", 360), track("1080", 1080)),
         ["weave:1080+audio", "relay:360"]),
    Case("a seekable film of the same height", (audio(), film("720", 720), track("720v", 720)), ["relay:720"]),
    Case("a pair if the film of the same height is not seekable",
         (audio(), track("720v", 720), film("hls", 720, **HLS)), ["weave:720v+audio", "relay:hls"]),
    Case("a film of greater height although it is not seekable",
         (audio(), track("720v", 720), film("hls", 1080, **HLS)), ["relay:hls"]),
    Case("the best video and audio that can be woven",
         (audio("low"), audio("best"), audio("opus", ext="webm"), track("720", 720), track("vp9", 2160, ext="webm")),
         ["weave:720+best"]),
    Case("the audio alone if video and audio cannot be woven", (audio(ext="webm"), track("vp9", 720, ext="webm")),
         ["relay:audio"]),
    Case("an HLS variant without audio is not a film", (film("360", 360), audio("group", **HLS), MUTE),
         ["merge:hls+group", "relay:360"]),
    Case("an HLS variant without audio is merged with audio", (audio("group", **HLS), MUTE),
         ["merge:hls+group", "relay:group"]),
    Case("segments of greater height, then the film",
         (audio(**DASH), film("360", 360), track("1080", 1080, **DASH)), ["merge:1080+audio", "relay:360"]),
    Case("a film of the same height as segments, although it is not seekable",
         (audio(**DASH), track("720v", 720, **DASH), film("hls", 720, **HLS)), ["relay:hls"]),
    Case("files before segments of the same height",
         (audio("a"), audio("da", **DASH), track("v", 720), track("dv", 720, **DASH)),
         ["weave:v+a", "merge:dv+da"]),
    Case("segments of greater height than files",
         (audio("a"), audio("da", **DASH), track("v", 720), track("dv", 1080, **DASH)),
         ["merge:dv+da", "weave:v+a", "relay:da"]),
    Case("segments of different protocols are not merged",
         (audio(**HLS), track("720", 720, **DASH)), ["relay:audio"]),
    Case("segments and a file are not merged", (audio(), track("720", 720, **DASH)), ["relay:audio"]),
    Case("segments of a container other than MP4 are not merged",
         (audio(ext="webm", **DASH), track("720", 720, ext="webm", **DASH)),
         ["relay:audio"]),
    Case("the best audio track for video segments",
         (*LANGUAGES, track("720", 720, **DASH)), ["merge:720+de-AT", "relay:de-AT"]),
    Case("audio in a language", (*LANGUAGES, track("720", 720, **DASH)), ["merge:720+en", "relay:en"], {"lang": "en"}),
    Case("audio in a region", (*LANGUAGES, track("720", 720, **DASH)),
         ["merge:720+de-AT", "relay:de-AT"], {"lang": "de-at"}),
    Case("audio in any region", (*LANGUAGES, track("720", 720, **DASH)),
         ["merge:720+fr-CA", "relay:fr-CA"], {"lang": "fr"}),
    Case("no audio in the language", (*LANGUAGES, track("720", 720, **DASH)),
         ["merge:720+de-AT", "relay:de-AT"], {"lang": "it"}),
    Case("a variant of unknown audio codec is a film unless its audio is apart", (UNKNOWN,), ["relay:hls"]),
    Case("an audio-only variant does not make a variant of unknown codec a film without audio",
         (audio("variant", **HLS), UNKNOWN), ["relay:hls"]),
    Case("only DRM", (film("drm", 360, has_drm=True),), DrmProtected),
    Case("only formats that are refused", (film("odd", 360, refusal="Why."),), UnsupportedConversion),
    Case("a refused format beside others", (film("360", 360), film("odd", 720, refusal="Why.")), ["relay:360"]),
    Case("audio is not chosen alone if all video is refused", (audio(), track("odd", 720, refusal="Why.")),
         UnsupportedConversion),
    Case("video is not chosen alone if all audio is refused", (audio(refusal="Why."), track("720", 720)),
         UnsupportedConversion),
    Case("audio is not chosen alone if all video has DRM", (audio(), track("drm", 720, has_drm=True)), DrmProtected),
    Case("only formats that no opener supports", (film("rtmp", 360, protocol="rtmp"),), FormatNotFound),
    Case("embedded gets the audio if it would have to merge", (audio(), track("720", 720)), ["embedded:audio"],
         {"method": "embedded"}),
    Case("audio alone", (audio("low"), audio("best")), ["relay:best"]),
    Case("video alone", (track("mute", 360),), ["relay:mute"]),
    Case("a protocol that relay lacks goes to embedded", (film("ism", 360, protocol="ism"),), ["embedded:ism"]),
    # Requests with `height`, `codec`, `lang` or `max_size`
    Case("at most 1080 pixels", (film("1080", 1080), film("2160", 2160)), ["relay:1080"]),
    Case("the lowest if all are higher", (film("1440", 1440), film("2160", 2160)), ["relay:1440"]),
    Case("the height is the shorter side", (film("tall", 1920, width=1080), film("taller", 2560, width=1440)),
         ["relay:tall"]),
    Case("a height", (film("360", 360), film("720", 720)), ["relay:360"], {"height": 480}),
    Case("the greatest height", (film("1080", 1080), film("2160", 2160)), ["relay:2160"], {"height": "max"}),
    Case("h264 among equal heights", (film("h264", 720, vcodec="avc1.64001f"), film("av1", 720, vcodec="av01.0")),
         ["relay:h264"]),
    Case("a codec", (film("av1", 720, vcodec="av01.0.05M.08"), film("h264", 720)), ["relay:av1"], {"codec": "av1"}),
    Case("any codec", (film("h264", 720), film("av1", 720, vcodec="av01.0.05M.08")), ["relay:av1"], {"codec": "any"}),
    Case("a codec does not outweigh the height", (film("vp9", 360, vcodec="vp9"), film("h264", 720)), ["relay:h264"],
         {"codec": "vp9"}),
    Case("a language", (audio("de", language="de"), audio("en", language="en"), track("720", 720)),
         ["weave:720+de"],
         {"lang": "de"}),
    Case("a narrower language", (film("en", 720, language="en-GB"), film("fr", 720, language="fr")), ["relay:en"],
         {"lang": "EN"}),
    Case("a language by its code of three letters", (audio("de", language="de"), audio("en", language="en"),
                                                     track("720", 720)), ["weave:720+de"], {"lang": "ger"}),
    Case("a language that the page writes with three letters",
         (film("cs", 720, language="cze"), film("fr", 720, language="fra")), ["relay:cs"], {"lang": "cs-CZ"}),
    Case("without a language the last audio",
         (audio("de", language="de"), audio("en", language="en"), track("720", 720)), ["weave:720+en"]),
    Case("a language that the page lacks", (film("en", 720, language="en"),), ["relay:en"], {"lang": "de"}),
    Case("the main audio although another audio is better",
         (audio("main"), audio("other", is_alternate=True), track("720", 720)), ["weave:720+main"]),
    Case("the language before the main audio",
         (audio("main", language="en"), audio("other", language="de", is_alternate=True), track("720", 720)),
         ["weave:720+other"], {"lang": "de"}),
    Case("the main audio among audio in the language",
         (audio("main", language="de"), audio("commentary", language="de", is_alternate=True), track("720", 720)),
         ["weave:720+main"], {"lang": "de"}),
    Case("the main audio if the page lacks the language",
         (audio("main", language="de"), audio("other", language="fr", is_alternate=True), track("720", 720)),
         ["weave:720+main"], {"lang": "it"}),
    Case("the main audio alone", (audio("main"), audio("other", is_alternate=True)), ["relay:main"]),
    Case("the audio whose language the site prefers",
         (audio("original", language_preference=10), audio("dub", language_preference=-1), track("720", 720)),
         ["weave:720+original"]),
    Case("a film in the original language although another one is higher",
         (film("original", 720, language_preference=10), film("dub", 1080, language_preference=-1)),
         ["relay:original"]),
    Case("a film in the original language although ranges of another one can be requested",
         (film("original", 720, language_preference=10, **HLS), film("described", 720, language_preference=-10)),
         ["relay:original"]),
    Case("audio of unknown language counts as the original",
         (audio("a", language_preference=10), track("144", 144), film("360", 360)), ["relay:360"]),
    Case("a language if the page states none", (film("720", 720),), ["relay:720"], {"lang": "de"}),
    Case("a size", (film("360", 360, size=10), film("720", 720, size=30)), ["relay:360"], {"max_size": 20}),
    Case("a size by the bitrate", (film("360", 360, bitrate=8.0), film("720", 720, bitrate=16.0)), ["relay:360"],
         {"max_size": 12_000}, duration=10),
    Case("a size that a pair exceeds", (audio(size=15), film("360", 360, size=10), track("720", 720, size=15)),
         ["relay:360"], {"max_size": 20}),
    Case("no format is below the maximum size", (film("360", 360, size=30),), TooLarge, {"max_size": 20}),
    Case("a format of unknown size exceeds every maximum size", (film("360", 360),), TooLarge, {"max_size": 20}),
    Case("height and lang have no effect if the request has a format id",
         FILMS, ["relay:vp9"], {"format": "vp9", "height": 100, "lang": "de"}),
    # Requests with `format`
    Case("a format id", FILMS, ["relay:vp9"], {"format": "vp9"}),
    Case("a selector", FILMS, ["weave:720+audio"], {"format": "bv+ba", "selections": (("720", "audio"),)}),
    Case("selected segments", (audio(**DASH), track("720", 720, **DASH)), ["merge:720+audio"],
         {"format": "bv+ba", "selections": (("720", "audio"),)}),
    Case("segments and a file are selected", (audio(), track("720", 720, **DASH)), UnsupportedConversion,
         {"format": "bv+ba", "selections": (("720", "audio"),)}),
    Case("audio before video", FILMS, ["weave:720+audio"], {"format": "ba+bv", "selections": (("audio", "720"),)}),
    Case("a pair that cannot be merged", FILMS, UnsupportedConversion,
         {"format": "x", "selections": (("vp9", "audio"),)}),
    Case("the next pair if the first cannot be merged", FILMS, ["weave:720+audio"],
         {"format": "bv+ba", "selections": (("vp9", "audio"), ("720", "audio"))}),
    Case("a single format if no pair can be merged", (*FILMS, film("360", 360)), ["relay:360"],
         {"format": "bv*+ba/b", "selections": (("vp9", "audio"), ("360",), ("720",))}),
    Case("a single format if the pair cannot be opened", (*FILMS, film("360", 360)), ["weave:720+audio", "relay:360"],
         {"format": "bv*+ba/b", "selections": (("720", "audio"), ("360",))}),
    Case("the reason of the best selection if none can be streamed", FILMS, DrmProtected,
         {"format": "x", "selections": (("drm",), ("vp9", "audio"))}),
    Case("two videos", FILMS, UnsupportedConversion, {"format": "x", "selections": (("720", "720"),)}),
    Case("three tracks", FILMS, UnsupportedConversion, {"format": "x", "selections": (("720", "audio", "audio"),)}),
    Case("a selected format with DRM", FILMS, DrmProtected, {"format": "x", "selections": (("drm",),)}),
    Case("a selected format that is refused", (film("odd", 360, refusal="Why."),), UnsupportedConversion,
         {"format": "odd"}),
    Case("selected audio, all video being refused", (audio(), track("odd", 720, refusal="Why.")), ["relay:audio"],
         {"format": "audio"}),
    Case("a format that is gone", FILMS, FormatNotFound, {"format": "x", "selections": (("720", "gone"),)}),
    Case("nothing selected", FILMS, FormatNotFound, {"format": "x", "selections": ((),)}),
    # Requests with `method`
    Case("embedded never merges", (audio(), film("360", 360), track("720", 720)), ["embedded:360"],
         {"method": "embedded"}),
    Case("relay refuses a format that it does not support", (film("ism", 360, protocol="ism"),), FormatNotFound,
         {"method": "relay", "format": "ism"}),
    Case("an unknown method", FILMS, InvalidParameter, {"method": "magic"}),
    Case("a child extracts the page itself", FILMS, ["subprocess:"], {"method": "subprocess"}),
    Case("a child does not convert", FILMS, UnsupportedConversion, {"method": "subprocess", "to": "mp4"}),
    Case("a redirect to the best format that the client can fetch",
         (film("180", 180), film("360", 360, headers={"X": "1"}), film("hls", 720, **HLS)), ["redirect:180"],
         {"method": "redirect"}),
    Case("a redirect to a format that the client cannot fetch", (film("180", 180), film("hls", 720, **HLS)),
         UnsupportedConversion, {"method": "redirect", "format": "hls"}),
    Case("a redirect if the client can fetch no format", (film("hls", 720, **HLS),), UnsupportedConversion,
         {"method": "redirect"}),
    Case("a redirect to a pair", (audio(), track("720", 720)), UnsupportedConversion, {"method": "redirect"}),
    Case("a redirect to media that has the container", (film("360", 360),), ["redirect:360"],
         {"method": "redirect", "to": "mp4"}),
    Case("a redirect with a start", (film("360", 360),), InvalidParameter, {"method": "redirect", "start": 1.0}),
    # Requests with `to`: the media must already have the container
    Case("mp4 of a pair", FILMS, ["weave:720+audio"], {"to": "mp4"}),
    Case("mp4 of a film", (film("360", 360),), ["relay:360"], {"to": "mp4"}),
    Case("webm of an mp4", (film("360", 360),), UnsupportedConversion, {"to": "webm"}),
    Case("m4a", (audio(),), ["relay:audio"], {"to": "m4a"}),
    Case("ogg", (audio("vorbis", ext="ogg"),), ["relay:vorbis"], {"to": "ogg"}),
    Case("ogg of an m4a", (audio(),), UnsupportedConversion, {"to": "ogg"}),
    Case("mp4 of segments", (film("hls", 360, **HLS),), UnsupportedConversion, {"to": "mp4"}),
    Case("only the plan with the container that the request names",
         (audio(), track("720", 720), film("webm", 360, ext="webm")),
         ["weave:720+audio"], {"to": "mp4"}),
    # Requests with `start`
    Case("start in HLS", (film("hls", 360, **HLS),), ["relay:hls"], {"start": -30.0}),
    Case("start in a file", (film("360", 360),), InvalidParameter, {"start": 1.0}),
    Case("start in a pair", (audio(), track("720", 720), film("hls", 360, **HLS)), InvalidParameter, {"start": 1.0}),
    Case("start in a selected pair", (*FILMS, MUTE), InvalidParameter,
         {"start": 1.0, "format": "x", "selections": (("720", "audio"),)}),
    Case("start by embedded", (film("hls", 360, **HLS),), InvalidParameter, {"start": 1.0, "method": "embedded"}),
    # Limits of the settings
    Case("within MAX_DURATION", (film("360", 360),), ["relay:360"], duration=60),
    Case("beyond MAX_DURATION", (film("360", 360),), TooLarge, duration=60.1),
]  # fmt: skip


def planned(page: Media, request: StreamRequest) -> tuple[Plan, ...]:
    return plans(page, request, CAPABILITIES.allowed_for(request))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_gets_the_plans_or_the_error_that_the_table_in_this_module_states(case: Case) -> None:
    request = StreamRequest(url="https://example.com", **case.request)
    page = media(*case.tracks, duration=case.duration)
    if isinstance(case.expected, list):
        found = [plan for plan in planned(page, request) if plan.after in (After.UNOPENABLE, After.UNMERGEABLE)]
        assert [f"{plan.opener}:{'+'.join(track.id for track in plan.tracks)}" for plan in found] == case.expected
    else:
        with pytest.raises(case.expected):
            planned(page, request)


def test_a_plan_promises_only_what_its_opener_can_do() -> None:
    request = StreamRequest(url="https://example.com")
    merged, single, _ = planned(media(audio(), film("360", 360), track("720", 720)), request)
    segmented, _ = planned(media(film("hls", 360, **HLS)), request)
    (embedded,) = planned(media(film("ism", 360, protocol="ism")), request)
    found = merged, single, segmented, embedded
    assert [(plan.method, plan.nbytes, plan.exact_length, plan.ranges, plan.container) for plan in found] == [
        ("relay", 400, True, True, MP4),
        ("relay", 100, True, True, None),
        ("relay", 100, False, False, None),
        ("embedded", 300, False, False, None),
    ]


def test_a_format_lists_the_methods_and_conversions_that_support_it() -> None:
    assert CAPABILITIES.methods_of(film("360", 360)) == ["relay", "embedded", "subprocess"]
    assert CAPABILITIES.conversions_of(film("360", 360)) == ["source", "mp4"]
    assert CAPABILITIES.conversions_of(film("hls", 360, **HLS)) == ["source"]
    assert CAPABILITIES.methods_of(film("drm", 360, has_drm=True)) == []
    assert CAPABILITIES.conversions_of(film("drm", 360, has_drm=True)) == []
    assert CAPABILITIES.methods_of(film("odd", 360, refusal="Why.")) == []


def test_the_tracks_are_chosen_by_yt_dlp_only_if_the_request_has_a_selector_and_no_tracks_are_chosen_yet() -> None:
    page = media(*FILMS)
    asked = {None: False, "720": False, "bv*+ba": True}
    for format, expected in asked.items():
        assert needs_selection(page, StreamRequest(url="x", format=format), CAPABILITIES) == expected
    assert not needs_selection(page, StreamRequest(url="x", format="bv*+ba", selections=(("720",),)), CAPABILITIES)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"to": "mkv"}, UnsupportedConversion),
        ({"to": "nonsense"}, UnsupportedConversion),
        ({"end": 1.0}, InvalidParameter),
        ({"start": float("nan")}, InvalidParameter),
        ({"item": 0}, InvalidParameter),
    ],
)
def test_a_request_that_is_invalid_for_any_media_raises_an_error(
    fields: dict[str, Any], error: type[ServerPYError]
) -> None:
    with pytest.raises(error):
        check(StreamRequest(url="https://example.com", **fields))


def test_choosing_among_a_million_pairs_asks_the_openers_a_few_times_for_each_track() -> None:
    asked = 0

    def carries(_track: Track) -> bool:
        nonlocal asked
        asked += 1
        return True

    openers = tuple(replace(each, carries=carries) for each in CAPABILITIES.openers)
    allowed = replace(CAPABILITIES, openers=openers)
    audios = [audio(f"a{number}", size=1000 - number) for number in range(1000)]
    videos = [track(f"v{number}", 100 + number, size=5000) for number in range(1000)]
    for limits in ({}, {"max_size": 5500}, {"lang": "de"}):
        request = StreamRequest(url="https://example.com", **limits)
        plans(media(*audios, *videos), request, allowed.allowed_for(request))
    assert asked < 3 * 2000 * 15


@pytest.mark.parametrize("seed", range(20))
def test_the_pair_within_a_size_is_the_best_of_all_pairs(seed: int) -> None:
    chance = random.Random(seed)
    some: dict[str, Any] = {
        "protocol": lambda: chance.choice(("https", *SEGMENTS)),
        "size": lambda: chance.choice((None, *range(9))),
    }
    audios = [
        audio(f"a{number}", language=chance.choice(("de", "en", None)), **{name: one() for name, one in some.items()})
        for number in range(12)
    ]
    videos = [
        track(f"v{number}", chance.choice((360, 720)), **{name: one() for name, one in some.items()})
        for number in range(8)
    ]
    page, wish = media(*audios, *videos), Wish(language="de", max_size=chance.randrange(14))
    request = StreamRequest(url="https://example.com", lang="de", max_size=wish.max_size)
    allowed = CAPABILITIES.allowed_for(request)
    every = [
        Candidate((video, each), allowed.seeks_in(video, each), page.tracks.index(video))
        for video in videos
        for each in best_audio_first(audios, wish)
        if allowed.merges(video, each)
    ]
    best = {
        allowed.plan(each.tracks).opener: each.tracks
        for each in reversed(ranked(every, allowed.wish_of(request), None))
    }
    if not best:
        with pytest.raises(TooLarge):
            planned(page, request)
        return
    found = {plan.opener: plan.tracks for plan in planned(page, request) if plan.after is After.UNOPENABLE}
    assert found == best
