"""Tests of the benchmark's clients with the sample site and its faults: the clients distinguish all outcomes of a
request."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from dataclasses import replace
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

import pytest

from serverpy.bench.measure.clients import Crowd, Visitor, first_byte, for_a_while, leaving, many, whole
from serverpy.bench.measure.exchange import Ask, Outcome
from serverpy.bench.measure.reference import BLOCK_BYTES, reference
from serverpy.errors import ConfigurationError
from serverpy.sample.content import large_sha256
from serverpy.sample.site import SampleSite
from tests import aio
from tests.aio import eventually
from tests.server import answers_under_way

SMALL = "photo-1.jpg"
LARGE = "large-180.mp4"
KIB = 1024


def ask(site: SampleSite, media: str, faults: str = "", patience: float = 30.0) -> Ask:
    parts = urlsplit(site.http)
    assert parts.hostname
    assert parts.port
    path = f"/fault/{faults}/media/{media}" if faults else f"/media/{media}"
    return Ask(parts.hostname, parts.port, path, reference(media), patience)


def get(asked: Ask) -> Outcome:
    return aio.run(lambda: whole(asked))


@pytest.mark.parametrize("faults", ["", "nolength", "closelength"])
def test_the_outcome_of_a_whole_body_is_complete_regardless_of_its_framing(site: SampleSite, faults: str) -> None:
    outcome = get(ask(site, SMALL, faults))
    assert (outcome.end, outcome.status) == ("complete", 200), outcome
    assert outcome.received == site.path(SMALL).stat().st_size
    assert outcome.first_byte is not None
    assert outcome.first_byte <= outcome.seconds


@pytest.mark.parametrize("faults", ["cut=1000", "cut=1000,nolength", "cut=1000,closelength", "rst=1000"])
def test_the_outcome_of_a_truncated_body_is_cut(site: SampleSite, faults: str) -> None:
    outcome = get(ask(site, SMALL, faults))
    assert (outcome.end, outcome.received) == ("cut", 1000), outcome


def test_the_outcome_of_a_body_with_the_right_length_but_different_bytes_is_wrong(site: SampleSite) -> None:
    asked = ask(site, SMALL, "changes=silent,id=bench-wrong")
    assert get(asked).end == "complete"
    assert get(asked).end == "wrong"


def test_the_outcome_of_a_body_shorter_than_its_reference_is_wrong_even_if_its_framing_is_complete(
    site: SampleSite,
) -> None:
    asked = ask(site, SMALL)
    longer = Ask(asked.host, asked.port, asked.path, reference("prog.mp4"))
    assert get(longer).end == "wrong"


def test_the_outcome_of_an_http_error_response_is_refused_and_contains_the_status(site: SampleSite) -> None:
    outcome = get(ask(site, SMALL, "status=503"))
    assert (outcome.end, outcome.status, outcome.received, outcome.first_byte) == ("refused", 503, 0, None)
    assert outcome.reason.startswith("503 ")


def test_the_outcome_of_a_refused_connection_is_failed(site: SampleSite) -> None:
    outcome = get(Ask("127.0.0.1", site.closed_port, "/", reference(SMALL)))
    assert (outcome.end, outcome.status) == ("failed", None)


def test_the_outcome_is_cut_if_the_server_stalls_in_the_middle_of_a_body_longer_than_the_client_waits(
    site: SampleSite,
) -> None:
    outcome = get(ask(site, SMALL, "stall=1000", patience=0.3))
    assert (outcome.end, outcome.received) == ("cut", 1000)
    assert "silent" in outcome.reason


def test_the_outcome_is_failed_if_the_server_sends_no_response_head_while_the_client_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        outcome = get(Ask("127.0.0.1", mute.getsockname()[1], "/", reference(SMALL), 0.2))
    assert outcome.end == "failed"


async def test_the_outcome_of_a_request_whose_client_disconnects_early_is_left(site: SampleSite) -> None:
    outcome = await leaving(ask(site, LARGE), 100_000)
    assert outcome.end == "left"
    assert 100_000 <= outcome.received < 2_000_000
    assert (await first_byte(ask(site, LARGE))).end == "left"
    assert (await for_a_while(ask(site, LARGE), 0.05)).end == "left"


async def read_slowly(asked: Ask, rate: int, clients: int = 1) -> list[Outcome]:
    """Request `asked` with `clients` slow clients, and wait until all responses have ended. Returns the outcomes."""
    async with Crowd(asked, rate) as crowd:
        await crowd.join(clients)
        await eventually(lambda: not crowd.reading)
        return crowd.outcomes


async def test_slow_clients_do_not_read_faster_than_their_rate(site: SampleSite) -> None:
    for outcome in await read_slowly(ask(site, SMALL), 256 * KIB, clients=5):
        assert outcome.end == "complete"
        assert outcome.seconds >= (outcome.received - 4 * KIB) / (256 * KIB)


async def test_a_response_to_a_slow_client_stays_unfinished_at_the_server(site: SampleSite) -> None:
    """The kernel's receive buffer of a slow client is small, so the server cannot finish a response at once."""
    await eventually(lambda: not answers_under_way(site))  # the responses of earlier tests must have ended
    async with Crowd(ask(site, LARGE), 256 * KIB) as crowd:
        await crowd.join(5)
        assert (crowd.reading, answers_under_way(site)) == (5, 5)
        crowd.leave(2)
        assert (crowd.reading, len(crowd.outcomes)) == (3, 2)
    assert crowd.reading == 0
    assert [outcome.end for outcome in crowd.outcomes] == ["left"] * 5


async def test_a_slow_client_reports_a_cut_stream_and_a_refused_request(site: SampleSite) -> None:
    (outcome,) = await read_slowly(ask(site, SMALL, "cut=50000"), 1000 * KIB)
    assert (outcome.end, outcome.received) == ("cut", 50_000)
    (outcome,) = await read_slowly(ask(site, SMALL, "status=404"), 1000 * KIB)
    assert outcome.end == "refused"


async def test_cancelling_a_crowd_of_slow_clients_closes_its_connections(site: SampleSite) -> None:
    with suppress(TimeoutError):
        async with Crowd(ask(site, LARGE), 64 * KIB) as crowd:
            await crowd.join(3)
            raise TimeoutError
    await eventually(lambda: not answers_under_way(site))


async def test_parallel_clients_count_every_request_and_reuse_their_connections(site: SampleSite) -> None:
    asked = ask(site, SMALL)
    tally = await many(lambda: asked, 3, count=30)
    assert (tally.total, tally.complete, len(tally.first_bytes)) == (30, 30, 30)
    assert tally.opened == 3
    assert (await many(lambda: asked, 2, seconds=2.0)).complete > 2


async def test_a_benchmark_load_stops_early_if_its_requests_fail(site: SampleSite) -> None:
    asked = ask(site, SMALL, "status=500")
    tally = await many(lambda: asked, 2, count=10_000)
    assert tally.complete == 0
    assert 50 <= tally.ends["refused"] < 100
    assert tally.reasons


def test_a_reference_file_has_the_bytes_that_the_sample_site_serves() -> None:
    large = reference("large-32.mp4")
    assert large.size == 32 << 20
    digest = sha256()
    for number in range(32):
        digest.update(large._block(number))
    assert digest.hexdigest() == large_sha256(32)


def test_a_reference_file_matches_its_own_bytes_even_across_block_borders_but_no_bytes_beyond_its_end() -> None:
    large = reference("large-32.mp4")
    block = bytes(large._block(1)) + bytes(large._block(2))
    assert large.matches(BLOCK_BYTES, block)
    assert large.matches(BLOCK_BYTES + 7, block[7:-9])
    assert not large.matches(BLOCK_BYTES + 8, block[7:-9])
    assert not large.matches(large.size - 1, b"xx")
    assert large.matches(0, b"")


def test_the_reference_file_of_a_playlist_is_that_of_its_best_variant(site: SampleSite) -> None:
    segments = [site.path(f"hls/ts/high-{number}.ts").read_bytes() for number in range(5)]
    playlist = reference("hls/ts")
    assert playlist.size == sum(map(len, segments))
    assert playlist.matches(0, b"".join(segments))
    with pytest.raises(ConfigurationError):
        reference("hls")
    with pytest.raises(ConfigurationError):
        reference("none.mp4")


def part(
    site: SampleSite, faults: str = "", span: tuple[int, int] | None = None, verb: Literal["GET", "HEAD"] = "GET"
) -> Ask:
    return replace(ask(site, SMALL, faults), span=span, verb=verb)


def test_the_body_of_a_range_is_compared_with_the_reference_bytes_at_its_offset(site: SampleSite) -> None:
    outcome = get(part(site, span=(1000, 3000)))
    assert (outcome.end, outcome.status, outcome.received) == ("complete", 206, 2000), outcome
    assert get(part(site, "norange", span=(1000, 3000))).received == reference(SMALL).size, (
        "a server may answer a range with the whole"
    )
    assert get(part(site, "cut=500", span=(1000, 3000))).end == "cut"
    assert get(part(site, "norange206", span=(1000, 3000))).end == "wrong"
    assert get(part(site, span=(1 << 30, 2 << 30))).status == 416


async def test_the_outcome_of_a_response_to_head_is_complete_without_a_body(site: SampleSite) -> None:
    with closing(Visitor()) as visitor:
        asks = (part(site, verb="HEAD"), part(site), part(site, verb="HEAD"))
        outcomes = [await visitor.ask(each) for each in asks]
        assert visitor.opened == 1
    assert [(each.end, each.received) for each in outcomes] == [
        ("complete", 0),
        ("complete", reference(SMALL).size),
        ("complete", 0),
    ]


async def test_a_client_that_disconnects_in_the_middle_of_a_body_sends_its_next_request_over_a_new_connection(
    site: SampleSite,
) -> None:
    with closing(Visitor()) as visitor:
        assert (await visitor.ask(ask(site, LARGE), 100_000)).end == "left"
        assert (await visitor.ask(ask(site, SMALL), 1 << 30)).end == "complete"
        assert visitor.opened == 2


def test_without_a_reference_file_only_the_framing_of_a_response_is_checked(site: SampleSite) -> None:
    anything = replace(ask(site, SMALL), reference=None)
    assert get(anything).end == "complete"
    assert get(replace(ask(site, SMALL, "cut=1000"), reference=None)).end == "cut"


def test_a_client_records_the_retry_after_of_a_refused_request(site: SampleSite) -> None:
    assert get(ask(site, SMALL, "status=503,retry=7")).retry_after == "7"
    assert get(ask(site, SMALL, "status=503")).retry_after is None
