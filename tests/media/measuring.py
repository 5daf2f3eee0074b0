"""Measurements of streams from the sample site, as a client sees them: whether the bytes are right, whether the length
is known and ranges are supported, and the cost of a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from serverpy.sample.make import ensure_media
from serverpy.sample.site import SampleSite
from tests.media import merging
from tests.media.merging import RESTARTING
from tests.media.mp4.films import packets
from tests.media.samples import DASH, HLS, LIVE, PAIRS, Sample, unwritten
from tests.players.films import FILMS, sources
from tests.server import Server
from tests.wire import Answer
from tests.written import as_relayed

WOVEN = "woven"
MERGED = "merged"
METHODS = ("relay", "embedded", "subprocess")
BROADCAST = 12
"""Number of segments in a live broadcast."""
SHOWN = 5
"""Number of different segment files that the site serves. A broadcast repeats these files."""
NONE = "–"


@dataclass(frozen=True, slots=True)
class Facts:
    """The cells of a row in docs/media.md that state whether the bytes are exact, the length is known and ranges are
    supported."""

    exact: str
    length: str = NONE
    ranges: str = NONE

    @property
    def streams(self) -> bool:
        return self.length != NONE


def facts_of(server: Server, sample: Sample, method: str, expected: Mapping[str, bytes]) -> Facts:
    """Measure streams of `sample` by `method`. `expected` contains the bytes of each format. With `subprocess`,
    measures only the best format, because each child process takes seconds."""
    if method == WOVEN:
        return _woven_facts(server, sample, expected)
    if method == MERGED:
        return _merged_facts(server, sample)
    if sample in LIVE:
        return _live_facts(server, sample, method)
    if sample in PAIRS:
        return _unwoven_facts(server, sample, method)
    ids = [each["id"] for each in formats(server, sample)]
    return _format_facts(server, sample, method, expected, ids[-1:] if method == "subprocess" else ids)


def formats(server: Server, sample: Sample) -> list[dict[str, Any]]:
    """Return the formats that `/info` lists. The last format is the best."""
    found: list[dict[str, Any]] = server.get(sample.page, path="/info").json()["formats"]
    return found


def _format_facts(server: Server, sample: Sample, method: str, expected: Mapping[str, bytes], ids: list[str]) -> Facts:
    seen = set[tuple[str, str]]()
    for each in ids:
        ask = partial(server.get, sample.page, method=method, format=each)
        answer = ask()
        wrong = _wrong(answer, _sent(answer, expected.get(each), sample, method), sample, method, server.site)
        if wrong is not None:
            return Facts(wrong) if answer.status != 200 else Facts(wrong, *_length_and_ranges(ask, answer))
        seen.add(_length_and_ranges(ask, answer))
    length, ranges = (" or ".join(sorted(set(cells))) for cells in zip(*seen, strict=True))
    return Facts("yes" if len(ids) == 1 else f"yes, {len(ids)} formats", length, ranges)


def _sent(answer: Answer, expected: bytes | None, sample: Sample, method: str) -> bytes | None:
    """Return the bytes that `method` should send for a sample. `expected` contains the bytes that yt-dlp writes for the
    sample."""
    if expected is None or method != "relay" or sample not in (*HLS, *DASH) or sample.title == "dash-on-demand":
        return expected
    return as_relayed(expected, has_length="content-length" in answer.headers)


def _wrong(answer: Answer, expected: bytes | None, sample: Sample, method: str, site: SampleSite) -> str | None:
    """Return the reason why the response is an error, or None if the response is complete. Raises AssertionError if the
    response is cut or its bytes are wrong. The right bytes are `expected` or, if yt-dlp refuses the sample, those that
    the method should send for the segments of the site."""
    if answer.status != 200:
        return _refusal(answer)
    if expected is None:
        assert answer.complete
        assert answer.body in [_sent(answer, each, sample, method) for each in unwritten(site, sample)]
        return None
    assert answer.complete, f"{sample.title} was cut"
    assert answer.body == expected, f"{sample.title}: {len(answer.body)} bytes differ from the expected {len(expected)}"
    return None


def _refusal(answer: Answer) -> str:
    return f"no: {answer.status} `{answer.code}`, “{answer.json()['detail']}”"


def _length_and_ranges(ask: partial[Answer], answer: Answer) -> tuple[str, str]:
    """Return whether the response has a Content-Length, and whether it supports ranges. Checks that the length and a
    range of the body are right."""
    length = answer.headers.get("content-length")
    assert length in (None, str(len(answer.body))) or not answer.complete
    first = len(answer.body) // 3
    part = ask(headers={"Range": f"bytes={first}-{2 * first}"})
    if part.status == 206:
        assert part.body == answer.body[first : 2 * first + 1]
    return _yes(length is not None), _yes(part.status == 206)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _woven_facts(server: Server, sample: Sample, expected: Mapping[str, bytes]) -> Facts:
    ask = partial(server.get, sample.page)
    answer = ask()
    assert (answer.status, answer.complete) == (200, True), answer.body
    for kind, source in zip(("video", "audio"), _apart(server, sample, expected), strict=True):
        assert packets(answer.body, kind) == packets(source, kind)
    return Facts("yes, its packets", *_length_and_ranges(ask, answer))


def _merged_facts(server: Server, sample: Sample) -> Facts:
    ask = partial(server.get, sample.page)
    answer = ask()
    assert (answer.status, answer.complete) == (200, True), answer.body
    goes_on = sample.title in RESTARTING
    for kind, source in zip(("video", "audio"), merging.sources(ensure_media(), sample.title), strict=True):
        found, given = packets(answer.body, kind), packets(source, kind)
        assert [each.digest for each in found] == [each.digest for each in given]
        assert goes_on or found == given
    exact = "yes, its packets; the times go on" if goes_on else "yes, its packets"
    return Facts(exact, *_length_and_ranges(ask, answer))


def _apart(server: Server, sample: Sample, expected: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """Return the video file and the audio file of a pair of tracks: the sample's files, or the best formats that yt-dlp
    wrote."""
    if sample.title in FILMS:
        video, audio = sources(sample.title)
        return video.read_bytes(), audio.read_bytes()
    best = {bool(each["vcodec"]): each["id"] for each in formats(server, sample)}
    return expected[best[True]], expected[best[False]]


def _unwoven_facts(server: Server, sample: Sample, method: str) -> Facts:
    """Measure the default choice of a method that cannot merge the tracks of the page: the audio."""
    ask = partial(server.get, sample.page, method=method)
    answer = ask()
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == sources(sample.title)[1].read_bytes()
    return Facts("yes, of its audio alone", *_length_and_ranges(ask, answer))


def _live_facts(server: Server, sample: Sample, method: str) -> Facts:
    """Measure a live stream. Checks that the stream consists of all segments from one of them to the last, each
    once."""
    answer = server.get(_own_broadcast(sample, method), method=method)
    if answer.status != 200:
        return Facts(_refusal(answer))
    assert answer.complete
    assert answer.body in _endings(server.site)
    return Facts(
        "yes, from the edge on",
        _yes("content-length" in answer.headers),
        _yes(answer.headers["accept-ranges"] == "bytes"),
    )


def _own_broadcast(sample: Sample, name: str) -> str:
    """Return the address of a page with a live broadcast that no other client watches."""
    return f"{sample.page},id={name}-{time.monotonic_ns()}"


def _endings(site: SampleSite) -> list[bytes]:
    parts = [site.path(f"hls/ts/high-{number % SHOWN}.ts").read_bytes() for number in range(BROADCAST)]
    return [b"".join(parts[begin:]) for begin in range(BROADCAST)]


# Costs of a stream


@dataclass(frozen=True, slots=True)
class Costs:
    """The time until the first byte of the media in milliseconds, for the first and for the second request, and the
    number of bytes that are reserved while a client reads slowly."""

    first: int
    again: int
    reserved: int | None


def costs_of(server: Server, sample: Sample, method: str) -> Costs:
    """Measure the best format of a page that the server has not seen yet. The caller must ensure that no other request
    is running."""
    page = _own_broadcast(sample, "costs") if sample in LIVE else f"{sample.page}?visit={method}"
    params = {} if method in (WOVEN, MERGED) else {"method": method}
    if method not in (WOVEN, MERGED) and sample not in LIVE:
        params["format"] = formats(server, sample)[-1]["id"]
    first = _milliseconds(server, page, params)
    again = _milliseconds(server, page, params)
    return Costs(first, again, _reserved(server, page, params))


def _milliseconds(server: Server, page: str, params: Mapping[str, Any]) -> int:
    begun = time.monotonic()
    with server.open(page, **params) as exchange:
        assert exchange.read(1)
        assert exchange.status == 200, exchange.rest()
    spent = round((time.monotonic() - begun) * 1000)
    server.settled()
    return spent


def _reserved(server: Server, page: str, params: Mapping[str, Any]) -> int | None:
    """Return the number of bytes reserved for a stream whose client reads slowly. Returns None if the stream has
    already ended, because a small file fits into the kernel's buffers."""
    with server.open(page, receive_bytes=4096, **params) as exchange:
        exchange.read(1)
        reserved: int = server.health()["budget"]["used"]
    server.settled()
    return reserved or None
