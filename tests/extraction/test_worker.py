"""The worker process from the server's side: real processes, the sample site, and extractors that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from serverpy.errors import (
    Busy,
    ConfigurationError,
    DrmProtected,
    ExtractionFailed,
    ExtractionTimeout,
    FormatNotFound,
    GeoRestricted,
    InvalidParameter,
    LoginRequired,
    MediaNotFound,
    ServerPYError,
    SiteForbidden,
    TargetForbidden,
    UpstreamFailed,
)
from serverpy.extraction.info import Media
from serverpy.extraction.messages import RawGone
from serverpy.extraction.workers import Workers, WorkersLimits
from serverpy.sample.site import SampleSite
from tests.aio import eventually, run
from tests.extraction.workers import OPTIONS, process_of, running

FAST = WorkersLimits(grace=0.3, wait=0.5, first_pause=0.01)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if not gone(child)]


def gone(process: psutil.Process) -> bool:
    """Ended, whether or not anybody has asked how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def fails(workers: Workers, url: str) -> ServerPYError:
    with pytest.raises(ServerPYError) as caught:
        await workers.extract(url)
    return caught.value


def test_pages_become_media(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            film = await workers.extract(f"{site.http}/page/prog")
            assert (film.kind, [track.protocol for track in film.tracks]) == ("video", ["http"])
            assert film.tracks[0].url == f"{site.http}/media/prog.mp4"
            assert film.webpage_url == f"{site.http}/page/prog"

            dash = await workers.extract(f"{site.http}/page/dash")
            by_id = {track.id: track for track in dash.tracks}
            assert (by_id["audio"].vcodec, by_id["video-360"].acodec) == (None, None)
            assert all(piece.url.startswith(site.http) for track in dash.tracks for piece in track.fragments)
            assert all(track.fragments for track in dash.tracks)

            hls = await workers.extract(f"{site.http}/page/hls-ts")
            assert {track.protocol for track in hls.tracks} == {"m3u8_native"}

            two = await workers.extract(f"{site.http}/page/two")
            assert two.kind == "playlist"
            assert [bool(entry.media and entry.media.tracks) for entry in two.entries] == [True, True]

            direct = await workers.extract(f"{site.http}/media/audio.mp3")
            assert (direct.kind, direct.tracks[0].vcodec) == ("audio", None)

    run(test)


def test_what_a_picky_site_asks_for_crosses_the_border(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            film = await workers.extract(f"{site.http}/tube/watch/full")
            assert (film.extractor, film.uploader, film.duration) == ("SampleTube", "The Sample Channel", 10.0)
            tracks = {track.id: track for track in film.tracks}
            assert tracks["chunked"].http_chunk_size == 512 * 1024
            assert "X-Tube-Token" in tracks["360"].headers
            assert tracks["360"].size_exact
            assert [(cookie.name, cookie.domain, cookie.path) for cookie in film.cookies] == [
                ("tube_session", "127.0.0.1", "/tube/media")
            ]
            assert {(each.language, each.automatic) for each in film.subtitles} == {
                ("de", False),
                ("en", False),
                ("en", True),
            }

            post = await workers.extract(f"{site.http}/tube/watch/post")
            assert post.tracks[0].request_data == "video=post&sign=3a7f"
            later = await workers.extract(f"{site.http}/tube/watch/later")
            assert later.tracks[0].available_at is not None

            live = await workers.extract(f"{site.http}/tube/live/a")
            assert (live.kind, live.title, live.tracks[0].is_live) == ("live", "Live: a", True)

            pictures = await workers.extract(f"{site.http}/tube/post/music")
            assert pictures.kind == "images"
            kinds = [entry.media.kind for entry in pictures.entries if entry.media]
            assert kinds == ["images"] * 5 + ["audio"]
            assert all(entry.media and entry.media.tracks[0].is_image for entry in pictures.entries[:5])

            listed = await workers.extract(f"{site.http}/tube/playlist/list-25")
            assert (listed.kind, len(listed.entries), listed.entries_complete) == ("playlist", 25, True)
            assert listed.entries[24].url == f"{site.http}/tube/watch/item-25"
            assert listed.entries[24].media is None

    run(test)


def test_failures_have_their_codes_and_clean_sentences(site: SampleSite) -> None:
    expected: dict[str, type[ServerPYError]] = {
        "/page/none": MediaNotFound,
        "/page/absent": MediaNotFound,
        "/tube/watch/gone": MediaNotFound,
        "/tube/watch/geo": GeoRestricted,
        "/tube/watch/login": LoginRequired,
        "/tube/watch/drm": DrmProtected,
        "/tube/watch/crash": ExtractionFailed,
        "/probe/keyerror": ExtractionFailed,
        "/probe2/bad": MediaNotFound,
        "/fault/status=500/media/prog.mp4": ExtractionFailed,
    }

    async def test() -> None:
        async with running() as workers:
            for path, kind in expected.items():
                error = await fails(workers, site.http + path)
                assert type(error) is kind, (path, error)
                assert not any(word in str(error) for word in ("127.0.0.1", "token=", "\x1b", "report", "--")), error
            dead = await fails(workers, f"http://127.0.0.1:{site.closed_port}/film")
            assert type(dead) is UpstreamFailed

    run(test)


def test_playlists_are_bounded_and_one_bad_item_does_not_fail_them(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            mixed = await workers.extract(f"{site.http}/probe2/mixed")
            assert [bool(entry.media) for entry in mixed.entries] == [True, False, True]
            endless = await workers.extract(f"{site.http}/probe2/endless")
            assert (len(endless.entries), endless.entries_complete) == (1000, False)
            assert endless.entries[999].title == "Item 999"

    run(test)


def test_the_guard_refuses_pages_redirects_and_what_a_page_names(site: SampleSite) -> None:
    async def test() -> None:
        async with running(allow_networks=()) as workers:
            assert type(await fails(workers, f"{site.http}/page/prog")) is TargetForbidden
        port = int(site.http.rpartition(":")[2])
        async with running(allow_networks=(f"127.0.0.1:{port}",)) as workers:
            assert (await workers.extract(f"{site.http}/page/redirect")).tracks
            inside = f"{site.http}/redirect?to=http%3A%2F%2F127.0.0.2%3A{port}%2Fpage%2Fprog"
            assert type(await fails(workers, inside)) is TargetForbidden
            assert type(await fails(workers, "http://169.254.169.254/latest/meta-data")) is TargetForbidden
            assert site.https
            assert type(await fails(workers, f"{site.https}/page/prog")) is TargetForbidden

    run(test)


def test_no_way_past_the_proxy(site: SampleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SERVERPY_LINK_SECRET", "a secret of the server that workers need not know")

    async def test() -> None:
        async with running() as workers:

            async def probe(what: str, to: str = "") -> object:
                answer: object = json.loads((await workers.extract(f"{site.http}/probe/{what}?to={to}")).title)
                return answer

            for way in ("noproxyheader", "noproxyargument", "impersonated"):
                assert await probe(way, f"{site.http}/page/prog") == "200"
            assert await probe("environment") == {"variables": [], "path": [], "ffmpeg": [False, False]}
            for url in ("file:///etc/passwd", "ws://127.0.0.1/"):
                assert "RequestError" in str(await probe("plain", url)) or "NoSupporting" in str(
                    await probe("plain", url)
                )
            assert "nobody came" in str(await probe("ftp"))
            assert str(await probe("plain", "data:text/plain,x")) in ("200", "None")
        before = len(site.requests)
        async with running(allow_networks=("127.0.0.2/32",)) as workers:
            for way in ("noproxyheader", "noproxyargument", "impersonated", "plain"):
                answer = (await workers.extract(f"http://127.0.0.2/probe/{way}?to={site.http}/page/prog")).title
                assert "403" in answer, (way, answer)
        assert len(site.requests) == before

    run(test)


def test_sites_can_be_allowed_and_denied(site: SampleSite) -> None:
    page, tube = f"{site.http}/page/prog", f"{site.http}/tube/watch/headers"

    async def codes(**options: Any) -> tuple[bool, bool]:
        async with running(**options) as workers:
            results = await asyncio.gather(workers.extract(page), workers.extract(tube), return_exceptions=True)
            assert all(isinstance(each, Media | SiteForbidden) for each in results), results
            return isinstance(results[0], Media), isinstance(results[1], Media)

    async def test() -> None:
        assert await codes(generic_extractor=False) == (False, True)
        assert await codes(deny_sites=("sampletube",)) == (True, False)
        assert await codes(allow_sites=("youtube",)) == (False, False)
        assert await codes(allow_sites=("youtube", "generic")) == (True, False)
        assert await codes(allow_sites=("SampleTube",), generic_extractor=False) == (False, True)

    run(test)


def test_cookies_of_one_extraction_are_unknown_to_the_next(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_workers=1) as workers:
            for _ in range(3):
                media = await workers.extract(f"{site.http}/probe/cookies?to={site.http}")
                assert json.loads(media.title) == []

    run(test)


def test_the_cookie_file_is_read_and_never_written(site: SampleSite, tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    fields = "\tFALSE\t/\tFALSE\t0\t"
    content = f"# Netscape HTTP Cookie File\n127.0.0.1{fields}mine\tvalue\nother.example{fields}theirs\tx\n"
    file.write_text(content)

    async def test() -> None:
        async with running(cookies_file=str(file)) as workers:
            film = await workers.extract(f"{site.http}/page/prog")
            assert site.requests[-1].headers.get("cookie") == "mine=value"
            assert [cookie.name for cookie in film.cookies] == ["mine"]
            await workers.extract(f"{site.http}/tube/watch/headers")

    run(test)
    assert file.read_text() == content


def test_https_needs_the_authority_of_ca_file(site: SampleSite) -> None:
    async def test() -> None:
        assert site.https
        async with running() as workers:
            assert type(await fails(workers, f"{site.https}/page/prog")) is UpstreamFailed
        async with running(ca_file=str(site.ca_file)) as workers:
            assert (await workers.extract(f"{site.https}/page/prog")).tracks
            answer = await workers.extract(f"{site.http}/probe/impersonated?to={site.https}/page/prog")
            assert json.loads(answer.title) == "200"

    run(test)


def test_impersonation_reaches_the_tracks(site: SampleSite) -> None:
    async def test() -> None:
        async with running(impersonate="chrome") as workers:
            film = await workers.extract(f"{site.http}/page/prog")
            assert film.tracks[0].impersonate is not None
            assert film.tracks[0].impersonate.startswith("chrome")
            assert "User-Agent" not in film.tracks[0].headers

    run(test)


@pytest.mark.parametrize(
    "options", [{"proxy": "nonsense"}, {"impersonate": "toaster-9"}, {"cookies_file": __file__}, {"ca_file": __file__}]
)
def test_settings_that_cannot_work_are_refused_at_start(options: dict[str, Any]) -> None:
    async def test() -> None:
        with pytest.raises(ConfigurationError):
            async with running(**options):
                pass

    run(test)


def test_a_stalled_page_times_out_and_frees_its_thread(site: SampleSite) -> None:
    """Its connection is cut: the same worker goes on."""

    async def test() -> None:
        async with running(extract_timeout=0.5, extract_workers=1) as workers:
            pid = (await process_of(workers)).pid
            started = time.monotonic()
            assert type(await fails(workers, f"{site.http}/page/slow?seconds=60")) is ExtractionTimeout
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert time.monotonic() - started < 3
            assert (await process_of(workers)).pid == pid
            assert workers.restarts == 0

    run(test)


def test_an_extractor_that_swallows_errors_is_stopped_all_the_same(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_timeout=0.5, extract_workers=1) as workers:
            pid = (await process_of(workers)).pid
            url = f"{site.http}/probe/swallow?to={site.http}/page/slow"
            assert type(await fails(workers, url)) is ExtractionTimeout
            await eventually(lambda: not workers._worker or not workers._worker.extractions)
            assert (await process_of(workers)).pid == pid

    run(test)


def test_a_deaf_extraction_costs_a_worker_its_place_and_nobody_their_request(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_timeout=2.0) as workers:
            old = await process_of(workers)
            deaf = asyncio.ensure_future(fails(workers, f"{site.http}/probe/hang"))
            await asyncio.sleep(1.2)
            slow = asyncio.ensure_future(workers.extract(f"{site.http}/page/slow?seconds=1.2"))
            assert type(await deaf) is ExtractionTimeout
            await eventually(lambda: workers._worker is None or workers._worker.pid != old.pid)
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert (await process_of(workers)).pid != old.pid
            assert (await slow).tracks
            await eventually(lambda: gone(old))
            assert gone(old)

    run(test)


def test_a_worker_that_dies_fails_its_requests_at_once_and_is_replaced(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            first = await process_of(workers)
            waiting = asyncio.ensure_future(fails(workers, f"{site.http}/page/slow?seconds=60"))
            await eventually(lambda: bool(workers._worker and workers._worker.extractions))
            first.send_signal(signal.SIGKILL)
            started = time.monotonic()
            assert type(await waiting) is ExtractionFailed
            assert time.monotonic() - started < 1
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert workers.restarts == 1

    run(test)


def test_the_children_of_a_worker_that_dies_die_too(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            process = await process_of(workers)
            running_child = asyncio.ensure_future(fails(workers, f"{site.http}/probe/child?to=3600"))
            await eventually(lambda: bool(children_of(process)))
            [child] = children_of(process)
            process.send_signal(signal.SIGKILL)
            await running_child
            await eventually(lambda: gone(child))
            assert gone(child)

    run(test)


def test_a_crash_loop_does_not_spin(site: SampleSite) -> None:
    async def test() -> None:
        limits = WorkersLimits(first_pause=0.3, wait=10)
        async with running(limits) as workers:
            started = time.monotonic()
            for _ in range(3):
                assert type(await fails(workers, f"{site.http}/probe/die")) is ExtractionFailed
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert time.monotonic() - started > 0.3 * 2 + 0.3 * 4

    run(test)


def test_js_children_are_two_at_most_and_end_with_the_deadline(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_workers=4, extract_timeout=1.5) as workers:
            process = await process_of(workers)
            url = f"{site.http}/probe/child?to=3600"
            asked = [asyncio.ensure_future(fails(workers, url)) for _ in range(4)]
            await eventually(lambda: len(children_of(process)) == 2)
            stats = (await workers.state()).stats
            assert stats
            assert (stats.children, stats.extractions) == (2, 4)
            most = 0
            while not all(each.done() for each in asked):
                most = max(most, len(children_of(process)))
                await asyncio.wait(asked, timeout=0.02)
            assert most == 2
            assert {type(await each) for each in asked} == {ExtractionTimeout}
            await eventually(lambda: not children_of(process))
            assert not children_of(process)
            assert (await process_of(workers)).pid == process.pid

    run(test)


def test_a_child_of_one_extraction_outlives_the_deadline_of_another(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_timeout=1.0) as workers:
            doomed = asyncio.ensure_future(fails(workers, f"{site.http}/probe/child?to=3600"))
            await asyncio.sleep(0.5)
            spared = asyncio.ensure_future(workers.extract(f"{site.http}/probe/child?to=0.8"))
            assert type(await doomed) is ExtractionTimeout
            started, ended = json.loads((await spared).title)
            assert ended - started >= 0.8

    run(test)


def test_a_child_that_nobody_waits_for_ends_with_its_extraction(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            child = psutil.Process(int(json.loads((await workers.extract(f"{site.http}/probe/orphan")).title)))
            await eventually(lambda: gone(child))
            assert gone(child)

    run(test)


def test_cancelling_an_extraction_frees_its_thread(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_workers=1) as workers:
            asked = asyncio.ensure_future(workers.extract(f"{site.http}/page/slow?seconds=60"))
            await eventually(lambda: bool(workers._worker and workers._worker.extractions))
            asked.cancel()
            started = time.monotonic()
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert time.monotonic() - started < 2
            assert workers.restarts == 0

    run(test)


def test_who_finds_no_free_thread_waits_and_is_then_told(site: SampleSite) -> None:
    async def test() -> None:
        async with running(FAST, extract_workers=1) as workers:
            first = asyncio.ensure_future(workers.extract(f"{site.http}/page/slow?seconds=1"))
            await eventually(lambda: bool(workers._worker and workers._worker.extractions))
            assert type(await fails(workers, f"{site.http}/page/prog")) is Busy
            assert (await first).tracks
            assert (await workers.extract(f"{site.http}/page/prog")).tracks

    run(test)


def test_the_line_is_served_in_order(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_workers=1) as workers:
            ended: list[int] = []

            async def ask(number: int) -> None:
                await workers.extract(f"{site.http}/page/prog?{number}")
                ended.append(number)

            await asyncio.gather(*(ask(number) for number in range(8)))
            assert ended == list(range(8))

    run(test)


def test_a_hundred_extractions_leave_no_descriptor_and_no_thread(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            process = await process_of(workers)

            async def some(count: int) -> tuple[int, int]:
                for number in range(count):
                    path = ("/page/hls-ts", "/tube/watch/full", "/page/prog", "/tube/playlist/list-15")[number % 4]
                    await workers.extract(site.http + path)
                await eventually(lambda: process.num_fds() <= settled[0])
                return process.num_fds(), process.num_threads()

            settled = (10_000, 0)
            settled = await some(20)
            assert await some(100) <= settled

    run(test)


def test_selectors_are_yt_dlps(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            film = await workers.extract(f"{site.http}/tube/watch/full")
            assert await workers.select(film, "bv+ba") == (("video", "audio"),)
            assert await workers.select(film, "webm") == (("webm",),)
            assert await workers.select(film, "b[height<=180][ext=mp4][protocol=http]/w") == (("180",),)
            with pytest.raises(FormatNotFound):
                await workers.select(film, "b[height>4000]")
            for bad in ("bv+", "b[", "b[height~]", "", "all+all", "b[format_id~='(a+)+$']", "x" * 2000):
                with pytest.raises(InvalidParameter):
                    await workers.select(film, bad)

    run(test)


def reader(descriptor: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(descriptor, "rb") as pipe:
            return pipe.read()

    return read


def test_a_download_comes_through_the_pipe(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            film = await workers.extract(f"{site.http}/tube/watch/full")
            reading, writing = os.pipe()
            download = await workers.download(film.raw_id, None, "360", writing)
            received = await asyncio.to_thread(reader(reading))
            assert received == site.path("prog.mp4").read_bytes()
            assert await download.wait() == len(received)
            await download.cancel()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(writing)

            post = await workers.extract(f"{site.http}/tube/post/x")
            for raw_id, item in ((post.raw_id, 2), (f"{post.raw_id}.2", None)):
                reading, writing = os.pipe()
                download = await workers.download(raw_id, item, "image", writing)
                assert await asyncio.to_thread(reader(reading)) == site.path("photo-2.jpg").read_bytes()
                await download.wait()

    run(test)


def test_a_download_of_a_forgotten_extraction_says_so(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            reading, writing = os.pipe()
            with pytest.raises(RawGone):
                await workers.download("nothing-1", None, "0", writing)
            assert await asyncio.to_thread(reader(reading)) == b""

    run(test)


def test_a_cancelled_download_lets_go_of_the_pipe(site: SampleSite) -> None:
    async def test() -> None:
        async with running(max_workers=1) as workers:
            film = await workers.extract(f"{site.http}/page/prog")
            reading, writing = os.pipe()
            download = await workers.download(film.raw_id, None, film.tracks[0].id, writing)
            second_reading, second_writing = os.pipe()
            with pytest.raises(Busy):
                await workers.download(film.raw_id, None, film.tracks[0].id, second_writing)
            os.close(second_reading)
            started = time.monotonic()
            await download.cancel()
            assert time.monotonic() - started < 1
            with pytest.raises(ServerPYError):
                await download.wait()
            await asyncio.to_thread(reader(reading))
            assert not (await workers.state()).downloads
            assert workers.restarts == 0

    run(test)


def test_a_download_on_a_retired_worker_is_finished(site: SampleSite) -> None:
    async def test() -> None:
        async with running(extract_timeout=0.5) as workers:
            film = await workers.extract(f"{site.http}/page/prog")
            reading, writing = os.pipe()
            download = await workers.download(film.raw_id, None, film.tracks[0].id, writing)
            old = await process_of(workers)
            assert type(await fails(workers, f"{site.http}/probe/hang")) is ExtractionTimeout
            await eventually(lambda: workers._worker is None or workers._worker.pid != old.pid)
            received = await asyncio.to_thread(reader(reading))
            assert received == site.path("prog.mp4").read_bytes()
            assert await download.wait() == len(received)

    run(test)


def test_closing_ends_everything_promptly(site: SampleSite) -> None:
    async def test() -> None:
        async with running() as workers:
            process = await process_of(workers)
            hanging = [
                asyncio.ensure_future(fails(workers, f"{site.http}/probe/{what}")) for what in ("hang", "child?to=3600")
            ]
            await eventually(lambda: bool(children_of(process)))
            children = children_of(process)
            started = time.monotonic()
            await workers.aclose()
            assert time.monotonic() - started < 3
            assert [type(await each) for each in hanging] == [ExtractionFailed] * 2
            await eventually(lambda: all(gone(child) for child in children))
            assert all(gone(child) for child in children)

    run(test)


def test_a_worker_ends_when_its_server_does() -> None:
    """The end of the socket is the end of the process: nothing is left of a server that was killed."""

    async def test() -> None:
        async with running() as workers:
            process = await process_of(workers)
            assert workers._worker
            assert workers._worker._sock
            workers._worker._sock.shutdown(socket.SHUT_RDWR)
            await eventually(lambda: gone(process))
            assert gone(process)

    run(test)


def test_a_start_goes_on_when_those_who_wait_for_it_have_left(site: SampleSite) -> None:
    async def test() -> None:
        workers = Workers(OPTIONS, WorkersLimits(wait=0.05))
        try:
            for _ in range(3):
                assert type(await fails(workers, f"{site.http}/page/prog")) is Busy
            await eventually(lambda: workers._worker is not None)
            assert (await workers.extract(f"{site.http}/page/prog")).tracks
            assert workers.restarts == 0
        finally:
            await workers.aclose()

    run(test)


def test_closing_in_the_middle_of_a_start_leaves_no_process() -> None:
    async def test() -> None:
        ours = psutil.Process()
        before = {child.pid for child in ours.children()}
        for turns in (0, 1, 3, 30, 300):
            workers = Workers(OPTIONS)
            starting = asyncio.ensure_future(workers.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await workers.aclose()
            with pytest.raises(ServerPYError):
                await starting
        await eventually(lambda: {child.pid for child in ours.children()} <= before)
        assert {child.pid for child in ours.children()} <= before

    run(test)
