"""Tests of the method `embedded` with real downloads by yt-dlp. The downloads run in threads of the test process
instead of the worker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.body import Source
from serverpy.errors import Busy, ExtractionFailed, NotMedia, ServerPYError, UpstreamFailed
from serverpy.extraction.messages import RawGone
from serverpy.extraction.values import Media, Track
from serverpy.memory.room import NO_ROOM, Room
from serverpy.options import Timeouts
from serverpy.plan import After
from serverpy.ranges import ByteRange
from serverpy.sample.site import SampleSite
from serverpy.streaming.methods.embedded import Embedded, RunningDownload
from serverpy.streaming.os_pipe import HandOver
from serverpy.tasks import cancel, spawn
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.download.track import transfer
from tests.aio import eventually
from tests.net.reading import FILE, by_turns, refusal, serving, whole
from tests.opening import opened
from tests.ytdlp.streams import progressive, session


class ThreadDownload:
    def __init__(self, info: dict[str, Any], fd: int) -> None:
        self.ticket = Ticket()
        self._ended = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def work() -> None:
            result: int | ServerPYError
            try:
                result = transfer(lambda: session(self.ticket), info, fd, self.ticket)
            except ServerPYError as error:
                result = error
            loop.call_soon_threadsafe(self._ended.set_result, result)

        self.thread = threading.Thread(target=work, name="embedded-under-test")
        self.thread.start()

    async def wait(self) -> int:
        result = await asyncio.shield(self._ended)
        if isinstance(result, ServerPYError):
            raise result
        return int(result)

    async def cancel(self) -> None:
        self.ticket.set()
        await asyncio.shield(self._ended)


class Threads:
    """Stand-in for `extraction.workers.Workers` that runs downloads in threads. `raw_id` is the URL of the media."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.gone: set[str] = set()
        self.asked: list[str] = []

    async def start_downloads(self) -> None: ...

    async def download(self, raw_id: str, track_id: str, write_fd: int, room: Room) -> RunningDownload:
        self.asked.append(raw_id)
        if raw_id in self.gone:
            os.close(write_fd)
            raise RawGone("gone")
        return ThreadDownload(progressive(raw_id, **self.fields), write_fd)


class Pages:
    """Stand-in for `extraction.extractor.Extractor` that always finds the media at `url`."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.fresh = 0

    async def extract(
        self,
        url: str,
        *,
        fresh: bool = False,
        accepts: Callable[[Media], bool] | None = None,
        grant: Grant = UNLIMITED,
    ) -> Media:
        self.fresh += fresh
        return media(self.url)


def media(url: str) -> Media:
    track = Track(id="0", url=url, protocol="http", ext="mp4", size=1234)
    return Media(
        raw_id=url, id="x", title="A film", kind="video", extractor="t", webpage_url="http://x.test/", tracks=(track,)
    )


def source(url: str, **fields: Any) -> Source:
    found = media(url)
    return Source(url="http://x.test/", media=found, **fields)


def method(
    workers: Threads | None = None, pages: Pages | None = None, *, max_workers: int = 2, stall: float = 120.0
) -> Embedded:
    timeouts = Timeouts(wait=0.05, stall=stall)
    return Embedded(workers or Threads(), pages or Pages(), HandOver(65536, 32768), timeouts, max_workers=max_workers)


async def read_all(body: Any) -> bytes:
    pieces = []
    while piece := await body.read():
        assert len(piece) <= 32768
        pieces.append(piece)
    return b"".join(pieces)


async def test_embedded_streams_the_bytes_of_the_media_with_their_content_type_and_title(site: SampleSite) -> None:
    body = await opened(method(), source(f"{site.http}/media/prog.mp4", range=ByteRange(5, 10)))
    assert (body.head.content_type, body.head.ext, body.head.title) == ("video/mp4", "mp4", "A film")
    assert (body.head.length, body.head.partial, body.head.seekable) == (None, False, False)
    assert body.head.estimate == 1234
    assert await read_all(body) == site.path("prog.mp4").read_bytes()
    assert await body.read() == b""
    await body.aclose()


async def test_mpeg_ts_is_recognised_whatever_type_the_extraction_declares(site: SampleSite) -> None:
    body = await opened(method(Threads(protocol="m3u8_native")), source(f"{site.http}/hls/ts/high.m3u8"))
    assert (body.head.content_type, body.head.ext) == ("video/mp2t", "ts")
    await body.aclose()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/fault/status=404/media/prog.mp4", UpstreamFailed),
        ("/media/empty.mp4", UpstreamFailed),
        ("/media/not-media.mp4", NotMedia),
    ],
)
async def test_open_raises_an_error_if_the_download_fails_before_its_first_byte_and_leaves_no_thread_or_descriptor(
    site: SampleSite, path: str, kind: type[ServerPYError]
) -> None:
    await prepare(site)
    embedded = method(pages=Pages(site.http + path))
    before = open_now()
    with pytest.raises(kind):
        await opened(embedded, source(site.http + path))
    assert ": 0/" in repr(embedded.slots)
    await eventually(lambda: no_more_than(before))


async def test_a_body_that_is_truncated_at_each_attempt_raises_upstream_failed_and_never_ends_in_a_clean_eof(
    site: SampleSite,
) -> None:
    body = await opened(method(), source(f"{site.http}/fault/cut=2000000,norange/media/prog.mp4"))
    received: list[bytes] = []
    with pytest.raises(UpstreamFailed):
        await read_for_ever(body, received)
    assert b"".join(received) == site.path("prog.mp4").read_bytes()[:2_000_000]
    await body.aclose()


async def test_an_extraction_whose_data_the_worker_has_lost_is_repeated_once(site: SampleSite) -> None:
    workers, pages = Threads(), Pages(f"{site.http}/media/prog.mp4")
    workers.gone.add("http://lost.test/")
    body = await opened(method(workers, pages), source("http://lost.test/"))
    assert pages.fresh == 1
    assert await read_all(body) == site.path("prog.mp4").read_bytes()
    await body.aclose()
    pages.url = "http://lost.test/"
    with pytest.raises(UpstreamFailed):
        await opened(method(workers, pages), source("http://lost.test/"))


@pytest.mark.parametrize(
    "stale", ["/fault/status=403/media/prog.mp4", "/fault/status=410/media/prog.mp4", "/media/not-media.mp4",
              "/media/empty.mp4", "/fault/rst=0/media/prog.mp4"],
)  # fmt: skip
async def test_an_expired_url_makes_the_server_extract_the_page_once_more(site: SampleSite, stale: str) -> None:
    pages = Pages(f"{site.http}/media/prog.mp4")
    body = await opened(method(pages=pages), source(f"{site.http}{stale}"))
    assert await read_all(body) == site.path("prog.mp4").read_bytes()
    assert pages.fresh == 1
    await body.aclose()


@pytest.mark.parametrize("status", [403, 404])
async def test_a_request_that_is_refused_once_is_repeated_although_the_url_is_still_the_same(status: int) -> None:
    async with serving(by_turns(lambda _ask: refusal(status), lambda _ask: whole())) as (url, _):
        body = await opened(method(pages=Pages(url)), source(url))
        assert await read_all(body) == FILE
        await body.aclose()


async def test_the_error_of_the_media_server_is_raised_if_the_page_cannot_be_extracted_again(site: SampleSite) -> None:
    class Gone(Pages):
        async def extract(self, url: str, **_: object) -> Media:
            raise ExtractionFailed("the page is gone")

    with pytest.raises(UpstreamFailed, match="status 403"):
        await opened(method(pages=Gone()), source(f"{site.http}/fault/status=403/media/prog.mp4"))


async def test_a_fallback_from_relay_does_not_extract_the_page_again(site: SampleSite) -> None:
    """The method `relay` has already used a fresh URL."""
    pages, embedded = Pages(f"{site.http}/media/prog.mp4"), method()
    found = source(f"{site.http}/fault/status=403/media/prog.mp4")
    plan = replace(embedded.capability.plan(found.media.tracks if found.media else ()), after=After.TRANSPORT)
    with pytest.raises(UpstreamFailed):
        await embedded.open(plan, found, NO_ROOM)
    assert pages.fresh == 0


async def test_a_stream_beyond_max_workers_waits_and_is_then_refused_as_busy(site: SampleSite) -> None:
    embedded = method(max_workers=1)
    url = f"{site.http}/media/large-64.mp4"
    body = await opened(embedded, source(url))
    with pytest.raises(Busy):
        await opened(embedded, source(url))
    await body.aclose()
    body = await opened(embedded, source(url))
    await body.aclose()


@pytest.mark.parametrize("path", ["/media/large-64.mp4", "/fault/stall=100000/media/prog.mp4"])
async def test_closing_a_body_early_leaves_no_thread_or_descriptor(site: SampleSite, path: str) -> None:
    await prepare(site)
    embedded = method()
    before = open_now()
    for _ in range(5):
        body = await opened(embedded, source(site.http + path))
        await body.read()
        await body.aclose()
        await body.aclose()
    assert ": 0/" in repr(embedded.slots)
    await eventually(lambda: no_more_than(before))


async def test_cancelling_open_before_the_first_byte_leaves_no_thread_or_descriptor(site: SampleSite) -> None:
    await prepare(site)
    embedded = method()
    before = open_now()
    seen = len(site.requests)
    opening = spawn(opened(embedded, source(f"{site.http}/fault/delay=600/media/prog.mp4")), name="open")
    await eventually(lambda: len(site.requests) > seen)
    await cancel(opening)
    assert ": 0/" in repr(embedded.slots)
    await eventually(lambda: no_more_than(before))


async def test_closing_a_body_wakes_its_waiting_reader(site: SampleSite) -> None:
    body = await opened(method(), source(f"{site.http}/fault/stall=100000/media/prog.mp4"))
    received: list[bytes] = []
    reading = spawn(read_for_ever(body, received), name="read for ever")
    await eventually(lambda: sum(map(len, received)) == 100_000)
    await body.aclose()
    with pytest.raises(UpstreamFailed):
        await reading


def test_an_embedded_stream_reserves_the_sum_of_the_sizes_of_its_buffers() -> None:
    pipe, objects, chunks, block, raw, egress = 65536, 32768, 2 * 32768, 2 * 65536, 32768, 2 * 32768
    assert method().stream_bytes == pipe + objects + chunks + block + raw + egress


def test_the_embedded_method_supports_finite_tracks_that_yt_dlp_downloads_natively() -> None:
    def track(protocol: str, **fields: Any) -> Track:
        return Track(id="0", url="http://x.test/", protocol=protocol, ext="mp4", **fields)

    assert all(method().carries(track(each)) for each in ("http", "https", "m3u8_native", "http_dash_segments", "ism"))
    assert not any(method().carries(track(each)) for each in ("rtmp", "niconico_live", "websocket_frag", "mhtml"))
    assert not method().carries(track("m3u8_native", is_live=True))
    assert not method().carries(track("http", has_drm=True))


async def read_for_ever(body: Any, received: list[bytes]) -> None:
    while True:
        received.append(await body.read())


def no_more_than(before: tuple[int, int]) -> bool:
    """Return True if this process has no more file descriptors and threads than before. It may have fewer, because
    those of earlier tests are still being closed."""
    return all(now <= then for now, then in zip(open_now(), before, strict=True))


def open_now() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


async def prepare(site: SampleSite) -> None:
    """Stream once, which creates the objects that each process needs only once (the event loop of the proxies, yt-dlp's
    first session). Then wait until the site's connections are closed."""
    body = await opened(method(), source(f"{site.http}/media/prog.mp4"))
    await body.aclose()
    await eventually(lambda: site.open_connections == 0)
    await eventually(lambda: all(thread.name != "download-watch" for thread in threading.enumerate()))
