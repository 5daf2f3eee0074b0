"""The embedded download inside the worker, against the sample site, through real pipes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.errors import ServerPYError, UpstreamFailed
from serverpy.sample.site import SampleSite
from tests.ytdlp.streams import Running, progressive, wait_for


@pytest.fixture(scope="module")
def site() -> Iterator[SampleSite]:
    with SampleSite() as running:
        yield running


def test_progressive_bytes_are_the_files(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/prog.mp4")) as download:
        received = download.read_all()
    assert received == site.path("prog.mp4").read_bytes()
    assert download.count == len(received)


@pytest.mark.parametrize(
    "faults", ["cut=2000000", "cut=2000000,etag=flip", "rst=2000000", "nolength", "nolength,cut=2000000"]
)
def test_a_cut_is_healed_by_ranges(site: SampleSite, faults: str) -> None:
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        received = download.read_all()
    assert download.error is None
    assert received == site.path("prog.mp4").read_bytes()


@pytest.mark.parametrize("faults", ["cut=2000000,norange", "cut=2000000,norange206", "rst=2000000,norange"])
def test_a_cut_that_cannot_be_healed_is_an_error_and_gives_no_byte_twice(site: SampleSite, faults: str) -> None:
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        received = download.read_all()
    assert isinstance(download.error, UpstreamFailed)
    assert received == site.path("prog.mp4").read_bytes()[:2000000]


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_refusal_is_an_error_and_no_byte(site: SampleSite, status: int) -> None:
    with Running(progressive(f"{site.http}/fault/status={status}/media/prog.mp4")) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, ServerPYError)
    assert download.error.code == "upstream_failed"
    assert str(status) in str(download.error)


def test_cancelling_wakes_a_writer_that_waits_for_room(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/large-64.mp4")) as download:
        download.read(10)
        download.cancelled.set()
        assert download.seconds_to_end() < 1
        assert isinstance(download.error, UpstreamFailed)


def test_a_reader_that_leaves_ends_the_thread(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/large-64.mp4")) as download:
        download.read(10)
        download.close_reader()
        assert download.seconds_to_end() < 1


@pytest.mark.parametrize("faults", ["stall=100000", "delay=30"])
def test_cancelling_wakes_a_thread_that_waits_for_a_silent_server(site: SampleSite, faults: str) -> None:
    before = len(site.requests)
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        assert wait_for(lambda: len(site.requests) > before)
        if faults.startswith("stall"):
            download.read(10)
        download.cancelled.set()
        assert download.seconds_to_end() < 1
