"""Tests of the worker process. It answers every request, and takes no more memory than its limit."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from serverpy.errors import Busy, ExtractionFailed, TooLarge
from serverpy.extraction import messages
from serverpy.extraction.messages import MAX_MESSAGE_BYTES, ErrorReply, Frames, Selected
from serverpy.sample.site import SampleSite
from serverpy.ytdlp.channel import Outbox
from serverpy.ytdlp.limits import DATA_BYTES, MIB
from serverpy.ytdlp.session.instance import MAX_PAGE_BYTES
from tests.aio import eventually
from tests.extraction.workers import download_process_of, fails, process_of, reader, running
from tests.processes import gone


def test_a_reply_that_is_too_large_to_send_is_replaced_by_an_error(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Outbox(theirs).send(Selected(id=7, choices=(("x" * MAX_MESSAGE_BYTES,),)))
        [body] = Frames().feed(ours.recv(65536))
    reply = messages.decode_reply(body)
    assert isinstance(reply, ErrorReply)
    assert (reply.id, reply.code) == (7, ExtractionFailed.code)
    assert "request 7" in caplog.text


async def test_an_error_with_a_lone_surrogate_is_sent_and_does_not_end_the_worker_thread(site: SampleSite) -> None:
    async with running(extract_workers=1) as workers:
        pid = (await process_of(workers)).pid
        assert "Half a pair: ?" in str(await fails(workers, f"{site.http}/probe/surrogate"))
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert (await process_of(workers)).pid == pid


async def test_a_request_whose_thread_exits_fails_instead_of_waiting_forever(site: SampleSite) -> None:
    async with running(extract_workers=1) as workers:
        assert type(await fails(workers, f"{site.http}/probe/exit")) is ExtractionFailed
        assert (await workers.extract(f"{site.http}/page/prog")).tracks


async def test_an_extraction_that_allocates_too_much_memory_fails_as_too_large(site: SampleSite) -> None:
    async with running() as workers:
        pid = (await process_of(workers)).pid
        assert (await workers.extract(f"{site.http}/probe/memory?to={DATA_BYTES // 4}")).tracks
        assert type(await fails(workers, f"{site.http}/probe/memory?to={3 * DATA_BYTES}")) is TooLarge
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert (await process_of(workers)).pid != pid
        assert workers.state().reruns == 1


@pytest.mark.parametrize("how", ["raised", "hidden"])
async def test_an_extraction_that_fills_the_memory_with_small_objects_fails_at_once_as_too_large(
    site: SampleSite, how: str
) -> None:
    """Small objects fill the memory of the worker up to its limit, and stay in memory until the traceback is freed. The
    timeout of extractions is too long to end this extraction."""
    async with running(extract_timeout=3600) as workers:
        assert type(await fails(workers, f"{site.http}/probe/fill?to={how}")) is TooLarge
        assert (await workers.extract(f"{site.http}/page/prog")).tracks


async def test_a_page_that_fills_the_memory_of_its_process_makes_no_other_extraction_fail(
    site: SampleSite, tmp_path: Path
) -> None:
    """The extraction process whose memory is full is replaced, and all extractions that ran in it are repeated one at a
    time."""
    async with running() as workers:
        held = [
            asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go&{number}"))
            for number in range(2)
        ]
        await eventually(lambda: workers.state().extractions == 2)
        hungry = asyncio.ensure_future(fails(workers, f"{site.http}/probe/fill?to=raised"))
        await eventually(lambda: workers.state().reruns == 3)
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        (tmp_path / "go").touch()
        assert all(media.tracks for media in await asyncio.gather(*held))
        assert type(await hungry) is TooLarge


async def test_an_extraction_for_which_no_thread_can_be_started_runs_in_another_process(
    site: SampleSite, tmp_path: Path
) -> None:
    async with running() as workers:
        first = await process_of(workers)
        idle_threads = first.num_threads()
        held = asyncio.ensure_future(workers.extract(f"{site.http}/probe/held?to={tmp_path}/go"))
        await eventually(lambda: first.num_threads() > idle_threads)
        resource.prlimit(first.pid, resource.RLIMIT_DATA, (data_bytes(first) + 2 * MIB,) * 2)
        second = asyncio.ensure_future(workers.extract(f"{site.http}/page/prog"))
        await eventually(lambda: workers.state().reruns == 2)
        (tmp_path / "go").touch()
        assert (await second).tracks
        assert (await held).tracks
        await eventually(lambda: gone(first))


async def test_free_heap_memory_of_the_worker_is_returned_to_the_system_after_the_last_extraction(
    site: SampleSite,
) -> None:
    async with running() as workers:
        process = await process_of(workers)
        before = process.memory_info().rss
        most = json.loads((await workers.extract(f"{site.http}/probe/heap?to={200 * MIB}")).title)
        assert most > before + 150 * MIB
        await eventually(lambda: process.memory_info().rss < before + 50 * MIB)


async def test_a_download_for_which_no_thread_can_be_started_fails_as_busy(site: SampleSite) -> None:
    async with running() as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, film.tracks[0].id, writing)
        process = download_process_of(workers)
        first = await asyncio.to_thread(
            os.read, reading, 1
        )  # after the first byte, all threads of the download have started
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (data_bytes(process) + 2 * MIB,) * 2)
        for _ in range(2):
            second_reading, second_writing = os.pipe()
            with pytest.raises(Busy):
                await workers.download(film.raw_id, film.tracks[0].id, second_writing)
            assert await asyncio.to_thread(reader(second_reading)) == b""
        assert first + await asyncio.to_thread(reader(reading)) == site.path("prog.mp4").read_bytes()
        await download.wait()
        assert download_process_of(workers).pid == process.pid


def data_bytes(process: psutil.Process) -> int:
    """Return the memory in bytes that RLIMIT_DATA counts for `process`."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    [data] = [line for line in status.splitlines() if line.startswith("VmData")]
    return int(data.split()[1]) * 1024


async def test_a_javascript_runtime_works_within_the_memory_limit_of_the_worker(site: SampleSite) -> None:
    """At its start, the JavaScript runtime Deno reserves half a gigabyte, which RLIMIT_DATA counts."""
    async with running(max_workers=1, extract_workers=1) as workers:
        ready = workers.state().ready
        assert ready is not None
        assert any(name.startswith("deno-") for name in ready.js_runtimes)
        media = await workers.extract(f"{site.http}/probe/run?to=deno")
        code, said, limit = json.loads(media.title)
        assert (code, said) == (0, "300000")
        assert DATA_BYTES < limit < 2 * DATA_BYTES


async def test_a_web_page_larger_than_max_page_bytes_fails_as_too_large(site: SampleSite) -> None:
    assert MAX_PAGE_BYTES == 8 * 1024 * 1024
    async with running() as workers:
        with pages() as base:
            media = await workers.extract(f"{site.http}/probe/read?to={base}/{MAX_PAGE_BYTES}")
            assert media.title == str(MAX_PAGE_BYTES)
            for size in (MAX_PAGE_BYTES + 1, 60_000_000):
                assert type(await fails(workers, f"{site.http}/probe/read?to={base}/{size}")) is TooLarge


@contextmanager
def pages() -> Iterator[str]:
    """Run a site whose page `/<n>` has n bytes. Yields the URL of the site."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left = int(self.path[1:])
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(left))
            self.end_headers()
            try:
                while left:
                    left -= self.wfile.write(b"<" * min(left, 65536))
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
