"""Tests of the rules in fallback.py, as tables: which plan the server tries after a plan has failed with an error, and
which media servers it remembers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serverpy.errors import (
    Busy,
    Draining,
    DrmProtected,
    ExtractionFailed,
    NotMedia,
    RangeNotSatisfiable,
    ServerPYError,
    SourceError,
    TargetForbidden,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.values import Track
from serverpy.fallback import HOST_SECONDS, MAX_HOSTS, MAX_PAIRS, REST_SECONDS, Hosts, Pairs, plans_after, plans_around
from serverpy.net.client import Response
from serverpy.net.range_requests import BACK_OFF_SECONDS, RangeRequests, Refused, Unhealable
from serverpy.plan import After, Plan, StreamRequest
from serverpy.ranges import ByteRange, parse_range
from tests.test_plan import CASES, DASH, FILMS, HLS, MUTE, Case, audio, film, media, planned, track

PAIR_OR_FILM = audio(), film("360", 360), track("1080", 1080)


@pytest.mark.parametrize(
    "case",
    [
        Case("a film", (film("360", 360),), ["embedded:360"]),
        Case("segments", (film("hls", 360, **HLS),), ["embedded:hls"]),
        Case("the film after a pair of tracks", PAIR_OR_FILM, ["embedded:360"]),
        Case("no fallback for a pair of tracks", (audio(), track("720", 720)), []),
        Case("no fallback for selected tracks", FILMS, [], {"format": "bv+ba", "selections": (("720", "audio"),)}),
        Case("a selected film", FILMS, ["embedded:720"], {"format": "720"}),
        Case("no fallback for method=relay", (film("360", 360),), [], {"method": "relay"}),
        Case("no fallback for method=embedded", (film("360", 360),), [], {"method": "embedded"}),
        Case("no fallback for method=subprocess", (film("360", 360),), [], {"method": "subprocess"}),
        Case("no fallback if only embedded supports the protocol", (film("ism", 360, protocol="ism"),), []),
        Case("no fallback with the parameter start", (MUTE,), [], {"start": 0.0}),
        *(
            Case(f"with {header}", (film("360", 360),), found, {"range": parse_range(header)})
            for header, found in (
                ("bytes=0-", ["embedded:360"]), ("bytes=0-0", []), ("bytes=1-", []), ("bytes=-1", []),
                ("bytes=-500", []), ("bytes=0-99999", []), ("bytes=0-1,5-6", ["embedded:360"]),
                (None, ["embedded:360"]),
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_request_has_the_fallback_plan_that_the_table_states(case: Case) -> None:
    found = planned(media(*case.tracks), StreamRequest(url="https://example.com", **case.request))
    fallbacks = [plan for plan in found if plan.after is After.TRANSPORT]
    assert [f"{plan.opener}:{plan.tracks[0].id}" for plan in fallbacks] == case.expected
    assert not fallbacks or fallbacks == [found[-1]]
    assert all(plan.nbytes == 300 for plan in fallbacks)


def test_a_plan_other_than_the_fallback_is_tried_only_if_the_media_of_the_previous_plan_cannot_be_opened() -> None:
    for case in CASES:
        if isinstance(case.expected, list):
            found = planned(
                media(*case.tracks, duration=case.duration), StreamRequest(url="https://example.com", **case.request)
            )
            afters = [plan.after for plan in found[: len(case.expected)]]
            is_audio = len(afters) > 1 and found[len(afters) - 1].tracks == found[0].tracks[1:]
            last = After.UNMERGEABLE if is_audio else After.UNOPENABLE
            assert afters == [*[After.UNOPENABLE] * (len(afters) - 1), last]


def of_transport(error: SourceError) -> SourceError:
    error.of_transport = True
    return error


PAIR, FILM, FALLBACK = planned(media(*PAIR_OR_FILM), StreamRequest(url="https://example.com"))
AUDIO = replace(FILM, after=After.UNMERGEABLE)
TRANSPORT = [of_transport(UpstreamFailed("x")), of_transport(UpstreamTimeout("x")), of_transport(Refused(403, None))]
FINAL: list[ServerPYError] = [
    UpstreamFailed("The media is empty."), UpstreamTimeout("silent"), TargetForbidden("x"), ExtractionFailed("x"),
    RangeNotSatisfiable("x"), Busy("x"), Draining("x"),
]  # fmt: skip
UNOPENABLE: list[ServerPYError] = [NotMedia("x"), DrmProtected("x"), TooLarge("x"), UnsupportedConversion("x")]


@pytest.mark.parametrize(
    ("errors", "rest", "left"),
    [
        (TRANSPORT, (FALLBACK,), (FALLBACK,)),
        (TRANSPORT, (FILM, FALLBACK), (FALLBACK,)),
        (TRANSPORT, (FILM,), ()),
        (TRANSPORT, (), ()),
        (UNOPENABLE, (FILM, FALLBACK), (FILM, FALLBACK)),
        (UNOPENABLE, (FALLBACK,), ()),
        ([UnsupportedConversion("x")], (AUDIO,), (AUDIO,)),
        ([NotMedia("x"), DrmProtected("x"), TooLarge("x"), *TRANSPORT], (AUDIO,), ()),
        (FINAL, (FILM, FALLBACK), ()),
        (FINAL, (FALLBACK,), ()),
    ],
)
def test_the_class_of_an_error_determines_which_plans_may_be_tried_after_it(
    errors: list[ServerPYError], rest: tuple[Plan, ...], left: tuple[Plan, ...]
) -> None:
    for error in errors:
        assert plans_after(error, rest) == left, error


class Silent:
    """A range source that no test opens and that has no other URL."""

    async def open(self, headers: dict[str, str]) -> Response:
        raise NotImplementedError

    async def renew(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UpstreamFailed("malformed"), True),
        (UpstreamTimeout("connect"), True),
        (Unhealable("framing"), True),
        *((Refused(status, None), True) for status in (400, 401, 403, 406, 412, 500, 503)),
        *((Refused(status, None), False) for status in (404, 410, 429, 451)),
    ],
)
async def test_a_failed_read_raises_a_transport_error_only_if_another_http_client_may_succeed(
    error: UpstreamFailed | UpstreamTimeout, expected: bool
) -> None:
    assert not error.of_transport
    requests = RangeRequests(Silent(), None, 0.0)
    requests.tries = len(BACK_OFF_SECONDS)
    with pytest.raises(type(error)) as caught:
        await requests.before_retry(error)
    assert caught.value.of_transport is expected


# Remembered media servers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def plan_of(*urls: str) -> Plan:
    tracks = tuple(Track(id="1", url=url, protocol="https", ext="mp4") for url in urls)
    return Plan(opener="relay", method="relay", nbytes=100, tracks=tracks)


def test_the_server_remembers_for_ten_minutes_that_relay_failed_for_a_media_server() -> None:
    clock = Clock()
    hosts = Hosts(clock)
    hosts.add(plan_of("https://a.example/film"))
    clock.now = HOST_SECONDS - 1
    assert hosts.has(plan_of("https://a.example/other?x"))
    clock.now = HOST_SECONDS
    assert not hosts.has(plan_of("https://a.example/film"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/", True),
        ("https://A.example:443/film", True),
        ("https://user:word@a.example/", True),
        ("https://a.example:8443/", False),
        ("http://a.example/", False),
        ("https://b.a.example/", False),
        ("https://[a/", False),
        ("https://a.example:x/", False),
    ],
)
def test_the_server_remembers_media_servers_by_host_and_port(url: str, expected: bool) -> None:
    hosts = Hosts()
    hosts.add(plan_of("https://a.example/film"))
    assert hosts.has(plan_of(url)) is expected


@pytest.mark.parametrize(
    "urls", [(), ("https://a.example/v", "https://a.example/a"), ("https://[a/",), (f"https://{'x' * 999}/",), ("a",)]
)
def test_no_media_server_is_remembered_for_a_pair_of_tracks_or_an_invalid_url(urls: tuple[str, ...]) -> None:
    hosts = Hosts()
    hosts.add(plan_of(*urls))
    assert not hosts.has(plan_of(*urls))
    assert not len(hosts)


def test_the_number_of_remembered_media_servers_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    hosts = Hosts()
    for number in range(MAX_HOSTS):
        hosts.add(plan_of(f"https://{number}.example/"))
    hosts.add(plan_of("https://0.example/"))
    hosts.add(plan_of("https://new.example/"))
    assert len(hosts) == MAX_HOSTS
    assert [hosts.has(plan_of(f"https://{name}.example/")) for name in ("0", "1", "2", "new")] == [
        True, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plans", "fields", "expected"),
    [
        ((FILM, FALLBACK), {}, ["embedded", "relay"]),
        ((FILM, FALLBACK), {"range": ByteRange(0, None)}, ["relay", "embedded"]),
        ((FILM, FALLBACK), {"range": ByteRange(5, None)}, ["relay", "embedded"]),
        ((PAIR, FILM, FALLBACK), {}, ["weave", "relay", "embedded"]),
        ((PAIR, FILM), {}, ["weave", "relay"]),
        ((FILM,), {}, ["relay"]),
    ],
)
def test_for_a_remembered_media_server_only_a_request_without_range_begins_with_the_fallback(
    plans: tuple[Plan, ...], fields: dict[str, Any], expected: list[str]
) -> None:
    hosts, request = Hosts(), StreamRequest(url="https://example.com", **fields)
    assert plans_around(plans, request, hosts) == plans
    hosts.add(FILM)
    assert [plan.opener for plan in plans_around(plans, request, hosts)] == expected
    hosts.discard(FILM)
    assert plans_around(plans, request, hosts) == plans


@pytest.mark.parametrize(
    ("error", "leads_back"),
    [
        (UpstreamFailed("x"), True),
        (UpstreamTimeout("x"), True),
        (Busy("x"), True),
        (Draining("x"), False),
        (NotMedia("x"), False),
        (TargetForbidden("x"), False),
    ],
)
def test_relay_is_tried_after_a_fallback_that_was_tried_first_and_failed(
    error: ServerPYError, leads_back: bool
) -> None:
    hosts = Hosts()
    hosts.add(FILM)
    _, *rest = plans_around((FILM, FALLBACK), StreamRequest(url="https://example.com"), hosts)
    assert plans_after(error, tuple(rest)) == ((replace(FILM, after=After.DETOUR),) if leads_back else ())


# Remembered pairs of tracks

HLS_PAIR = audio("audio", **HLS), track("1080", 1080, **HLS)
APART = planned(media(*HLS_PAIR, film("360", 360)), StreamRequest(url="https://example.com"))
APART_ALONE = planned(media(*HLS_PAIR), StreamRequest(url="https://example.com"))


def opened(plans: tuple[Plan, ...]) -> list[str]:
    return [f"{plan.opener}:{'+'.join(track.id for track in plan.tracks)}" for plan in plans]


@pytest.mark.parametrize(
    ("plans", "error", "expected"),
    [
        (APART, None, ["merge:1080+audio", "relay:360", "embedded:360"]),
        (APART, UnsupportedConversion("MPEG-TS"), ["relay:360", "embedded:360"]),
        (APART, DrmProtected("x"), ["relay:360", "embedded:360"]),
        (APART, TooLarge("x"), ["relay:360", "embedded:360"]),
        (APART, UpstreamFailed("x"), ["merge:1080+audio", "relay:360", "embedded:360"]),
        (APART, NotMedia("x"), ["merge:1080+audio", "relay:360", "embedded:360"]),
        (APART_ALONE, UnsupportedConversion("MPEG-TS"), ["relay:audio"]),
        (APART_ALONE, DrmProtected("x"), ["merge:1080+audio", "relay:audio"]),
        (APART[:1], UnsupportedConversion("MPEG-TS"), ["merge:1080+audio"]),
    ],
)
def test_plans_whose_pair_could_not_be_merged_before_are_left_out_if_another_plan_is_left(
    plans: tuple[Plan, ...], error: ServerPYError | None, expected: list[str]
) -> None:
    pairs = Pairs()
    assert pairs.openable(plans) == plans
    pairs.add(plans[0], error)
    assert opened(pairs.openable(plans)) == expected


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        (APART, True),
        (APART_ALONE, True),
        (APART[:1], False),
        ((FILM, FALLBACK), False),
        (planned(media(*PAIR_OR_FILM), StreamRequest(url="https://example.com")), False),
        (planned(media(audio(**DASH), track("720", 720, **DASH)), StreamRequest(url="https://example.com")), False),
    ],
)
def test_only_a_pair_in_hls_with_an_alternative_must_be_opened_to_know_the_format_that_is_sent(
    plans: tuple[Plan, ...], expected: bool
) -> None:
    pairs = Pairs()
    assert pairs.are_uncertain(plans) is expected
    pairs.add(plans[0], UpstreamFailed("x"))
    assert pairs.are_uncertain(plans) is expected
    pairs.add(plans[0])
    assert not pairs.are_uncertain(plans)


def test_a_pair_of_files_is_tried_again_each_time() -> None:
    plans = planned(media(*PAIR_OR_FILM), StreamRequest(url="https://example.com"))
    pairs = Pairs()
    pairs.add(plans[0], UnsupportedConversion("The media server does not support ranges."))
    assert pairs.openable(plans) == plans
    assert not len(pairs)


def test_a_pair_is_remembered_for_ten_minutes_by_the_ids_and_urls_of_its_tracks() -> None:
    clock = Clock()
    pairs = Pairs(clock)
    pairs.add(APART[0], UnsupportedConversion("x"))
    renewed = replace(APART[0], tracks=tuple(replace(each, url=f"{each.url}?new") for each in APART[0].tracks))
    assert pairs.openable((renewed, *APART[1:])) == (renewed, *APART[1:])
    clock.now = HOST_SECONDS - 1
    assert pairs.openable(APART) == APART[1:]
    clock.now = HOST_SECONDS
    assert pairs.openable(APART) == APART
    assert pairs.are_uncertain(APART)


def test_a_pair_whose_attempt_showed_nothing_is_not_tried_again_for_a_minute() -> None:
    clock = Clock()
    pairs = Pairs(clock)
    pairs.rest(APART[0])
    assert not pairs.are_uncertain(APART)
    assert pairs.openable(APART) == APART
    clock.now = REST_SECONDS
    assert pairs.are_uncertain(APART)


def test_a_pair_that_cannot_be_merged_stays_known_after_a_rest() -> None:
    pairs = Pairs()
    pairs.add(APART[0], UnsupportedConversion("x"))
    pairs.rest(APART[0])
    assert pairs.openable(APART) == APART[1:]


def test_the_number_of_remembered_pairs_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    pairs, failure = Pairs(), UnsupportedConversion("x")
    plans = [
        replace(APART[0], tracks=tuple(replace(each, url=f"{each.url}?{number}") for each in APART[0].tracks))
        for number in range(MAX_PAIRS + 1)
    ]
    for plan in (*plans[:MAX_PAIRS], plans[0], plans[MAX_PAIRS]):
        pairs.add(plan, failure)
    assert len(pairs) == MAX_PAIRS
    left = [pairs.openable((plan, FILM))[0] is FILM for plan in (plans[0], plans[1], plans[2], plans[MAX_PAIRS])]
    assert left == [True, False, True, True]
