"""Tests of the results and the refusals of real worker processes. Some extractors in these tests misbehave on
purpose."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from serverpy.errors import (
    Busy,
    ConfigurationError,
    DrmProtected,
    ExtractionFailed,
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
from serverpy.extraction.messages import RawGone
from serverpy.extraction.values import Media
from serverpy.memory.room import NO_ROOM, Room
from serverpy.sample.site import SampleSite
from tests.extraction.workers import fails, reader, running


async def test_extractions_of_sample_pages_return_the_expected_media(site: SampleSite) -> None:
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


async def test_an_extraction_returns_the_headers_and_cookies_and_chunk_sizes_that_a_site_requires(
    site: SampleSite,
) -> None:
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

        post_of_images = await workers.extract(f"{site.http}/tube/post/music")
        assert post_of_images.kind == "images"
        kinds = [entry.media.kind for entry in post_of_images.entries if entry.media]
        assert kinds == ["images"] * 5 + ["audio"]
        assert all(entry.media and entry.media.tracks[0].is_image for entry in post_of_images.entries[:5])

        listed = await workers.extract(f"{site.http}/tube/playlist/list-25")
        assert (listed.kind, len(listed.entries), listed.entries_complete) == ("playlist", 25, True)
        assert listed.entries[24].url == f"{site.http}/tube/watch/item-25"
        assert listed.entries[24].media is None


async def test_a_failed_extraction_raises_the_expected_error_class_with_a_clean_message(site: SampleSite) -> None:
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
    async with running() as workers:
        for path, kind in expected.items():
            error = await fails(workers, site.http + path)
            assert type(error) is kind, (path, error)
            assert not any(word in str(error) for word in ("127.0.0.1", "token=", "\x1b", "report", "--")), error
        dead = await fails(workers, f"http://127.0.0.1:{site.closed_port}/film")
        assert type(dead) is UpstreamFailed


async def test_an_extracted_playlist_has_at_most_1000_entries_and_may_contain_a_failed_item(site: SampleSite) -> None:
    async with running() as workers:
        mixed = await workers.extract(f"{site.http}/probe2/mixed")
        assert [bool(entry.media) for entry in mixed.entries] == [True, False, True]
        endless = await workers.extract(f"{site.http}/probe2/endless")
        assert (len(endless.entries), endless.entries_complete) == (1000, False)
        assert endless.entries[999].title == "Item 999"


async def test_the_guard_refuses_forbidden_addresses_in_page_urls_and_in_redirects(site: SampleSite) -> None:
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


async def test_no_request_of_the_worker_bypasses_the_egress_proxy(
    site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SERVERPY_LINK_SECRET", "a secret of the server that workers need not know")
    async with running() as workers:

        async def probe(what: str, to: str = "") -> object:
            answer: object = json.loads((await workers.extract(f"{site.http}/probe/{what}?to={to}")).title)
            return answer

        for way in ("noproxyheader", "noproxyargument", "impersonated"):
            assert await probe(way, f"{site.http}/page/prog") == "200"
        assert await probe("environment") == {"variables": [], "path": [], "ffmpeg": [False, False]}
        for url in ("file:///etc/passwd", "ws://127.0.0.1/"):
            assert "RequestError" in str(await probe("plain", url)) or "NoSupporting" in str(await probe("plain", url))
        assert "nobody came" in str(await probe("ftp"))
        assert str(await probe("plain", "data:text/plain,x")) in ("200", "None")
    before = len(site.requests)
    async with running(allow_networks=("127.0.0.2/32",)) as workers:
        for way in ("noproxyheader", "noproxyargument", "impersonated", "plain"):
            answer = (await workers.extract(f"http://127.0.0.2/probe/{way}?to={site.http}/page/prog")).title
            assert "403" in answer, (way, answer)
    assert len(site.requests) == before


async def test_settings_allow_or_deny_sites_by_their_extractor(site: SampleSite) -> None:
    page, tube = f"{site.http}/page/prog", f"{site.http}/tube/watch/headers"

    async def codes(**options: Any) -> tuple[bool, bool]:
        async with running(**options) as workers:
            results = await asyncio.gather(workers.extract(page), workers.extract(tube), return_exceptions=True)
            assert all(isinstance(each, Media | SiteForbidden) for each in results), results
            return isinstance(results[0], Media), isinstance(results[1], Media)

    assert await codes(generic_extractor=False) == (False, True)
    assert await codes(deny_sites=("sampletube",)) == (True, False)
    assert await codes(allow_sites=("youtube",)) == (False, False)
    assert await codes(allow_sites=("youtube", "generic")) == (True, False)
    assert await codes(allow_sites=("SampleTube",), generic_extractor=False) == (False, True)


async def test_cookies_of_one_extraction_are_not_sent_in_the_next_extraction(site: SampleSite) -> None:
    async with running(extract_workers=1) as workers:
        for _ in range(3):
            media = await workers.extract(f"{site.http}/probe/cookies?to={site.http}")
            assert json.loads(media.title) == []


async def test_the_worker_reads_the_cookie_file_and_never_writes_it(site: SampleSite, tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    fields = "\tFALSE\t/\tFALSE\t0\t"
    content = f"# Netscape HTTP Cookie File\n127.0.0.1{fields}mine\tvalue\nother.example{fields}theirs\tx\n"
    file.write_text(content)
    async with running(cookies_file=str(file)) as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        assert site.requests[-1].headers.get("cookie") == "mine=value"
        assert [cookie.name for cookie in film.cookies] == ["mine"]
        await workers.extract(f"{site.http}/tube/watch/headers")
    assert file.read_text() == content


async def test_an_extraction_over_https_needs_the_certificate_authority_in_ca_file(site: SampleSite) -> None:
    assert site.https
    async with running() as workers:
        assert type(await fails(workers, f"{site.https}/page/prog")) is UpstreamFailed
    async with running(ca_file=str(site.ca_file)) as workers:
        assert (await workers.extract(f"{site.https}/page/prog")).tracks
        answer = await workers.extract(f"{site.http}/probe/impersonated?to={site.https}/page/prog")
        assert json.loads(answer.title) == "200"


async def test_with_the_setting_impersonate_each_track_names_the_browser_to_impersonate(site: SampleSite) -> None:
    async with running(impersonate="chrome") as workers:
        film = await workers.extract(f"{site.http}/page/prog")
        assert film.tracks[0].impersonate is not None
        assert film.tracks[0].impersonate.startswith("chrome")
        assert "User-Agent" not in film.tracks[0].headers


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "nonsense"},
        {"impersonate": "toaster-9"},
        {"cookies_file": __file__},
        {"cookies_file": f"{__file__}.gone"},
        {"cookies_file": str(Path(__file__).parent)},
        {"ca_file": __file__},
    ],
)
async def test_a_worker_refuses_to_start_with_invalid_settings(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        async with running(**options):
            pass


async def test_a_worker_evaluates_format_selectors_as_yt_dlp_does(site: SampleSite) -> None:
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


async def test_a_download_writes_the_media_into_the_pipe(site: SampleSite) -> None:
    async with running() as workers:
        film = await workers.extract(f"{site.http}/tube/watch/full")
        reading, writing = os.pipe()
        download = await workers.download(film.raw_id, "360", writing)
        received = await asyncio.to_thread(reader(reading))
        assert received == site.path("prog.mp4").read_bytes()
        assert await download.wait() == len(received)
        await download.cancel()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(writing)

        post = await workers.extract(f"{site.http}/tube/post/x")
        reading, writing = os.pipe()
        download = await workers.download(f"{post.raw_id}.2", "image", writing)
        assert await asyncio.to_thread(reader(reading)) == site.path("photo-2.jpg").read_bytes()
        await download.wait()


async def test_the_download_process_extracts_a_page_itself_if_the_data_of_its_extraction_cannot_be_sent_to_it(
    site: SampleSite,
) -> None:
    async with running() as workers:
        page = await workers.extract(f"{site.http}/probe/generator?to={site.http}/media/prog.mp4")
        reading, writing = os.pipe()
        download = await workers.download(page.raw_id, "listed", writing)
        assert await asyncio.to_thread(reader(reading)) == site.path("prog.mp4").read_bytes()
        await download.wait()
        assert workers.state().raws_apart == 1


async def test_a_download_is_refused_as_busy_if_no_memory_is_free_for_the_data_of_its_track(site: SampleSite) -> None:
    async with running() as workers:
        film = await workers.extract(f"{site.http}/tube/watch/full")
        reading, writing = os.pipe()
        with pytest.raises(Busy):
            await workers.download(film.raw_id, "360", writing, Room(NO_ROOM, covered_bytes=1))
        assert await asyncio.to_thread(reader(reading)) == b""
        assert workers.state().download_pids == ()


async def test_a_download_from_an_unknown_extraction_raises_raw_gone(site: SampleSite) -> None:
    async with running() as workers:
        reading, writing = os.pipe()
        with pytest.raises(RawGone):
            await workers.download("nothing-1", "0", writing)
        assert await asyncio.to_thread(reader(reading)) == b""
