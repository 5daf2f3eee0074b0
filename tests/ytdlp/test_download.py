"""Tests of the downloads of the method `embedded` as the worker runs them, from the sample site into real pipes."""

from __future__ import annotations

import fcntl
import operator
import os
import subprocess
import sys
import termios
import threading
import time
import tracemalloc
from array import array
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.networking.impersonate import ImpersonateTarget

from serverpy.errors import NotMedia, ServerPYError, TargetForbidden, UnsupportedConversion, UpstreamFailed
from serverpy.sample.cut import aes_128
from serverpy.sample.site import SampleSite
from serverpy.segment_kinds import Judge, WrongKind
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.download.destinations import Decrypted, Plain
from serverpy.ytdlp.page.raw_store import RawMedia
from tests.aio import wait_for
from tests.streaming.segments.shelf import Shelf, in_turn
from tests.ytdlp.streams import Running, progressive, session


def test_a_progressive_download_returns_the_bytes_of_the_file(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/prog.mp4")) as download:
        received = download.read_all()
    assert received == site.path("prog.mp4").read_bytes()
    assert download.count == len(received)


@pytest.mark.parametrize("faults", ["cut=2000000", "rst=2000000", "nolength", "nolength,cut=2000000"])
def test_a_truncated_download_is_resumed_by_a_range_request(site: SampleSite, faults: str) -> None:
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        received = download.read_all()
    assert download.error is None
    assert received == site.path("prog.mp4").read_bytes()


@pytest.mark.parametrize("faults", ["cut=2000000,norange", "cut=2000000,norange206"])
def test_a_truncated_download_that_cannot_be_resumed_raises_an_error_and_repeats_no_byte(
    site: SampleSite, faults: str
) -> None:
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        received = download.read_all()
    assert isinstance(download.error, UpstreamFailed)
    assert received == site.path("prog.mp4").read_bytes()[:2000000]


def test_a_download_reset_by_the_server_that_cannot_be_resumed_raises_an_error_and_repeats_no_byte(
    site: SampleSite,
) -> None:
    """The number of bytes that arrive varies: the egress proxy passes the reset on, and a reset discards bytes that
    have arrived but have not been read yet."""
    with Running(progressive(f"{site.http}/fault/rst=2000000,norange/media/prog.mp4")) as download:
        received = download.read_all()
    assert isinstance(download.error, UpstreamFailed)
    assert site.path("prog.mp4").read_bytes()[:2000000].startswith(received)


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_response_with_an_error_status_raises_upstream_failed_before_any_byte(site: SampleSite, status: int) -> None:
    with Running(progressive(f"{site.http}/fault/status={status}/media/prog.mp4")) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, ServerPYError)
    assert download.error.code == "upstream_failed"
    assert str(status) in str(download.error)


def test_cancelling_a_download_wakes_its_thread_while_it_waits_for_space_in_the_pipe(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/large-64.mp4")) as download:
        download.read(10)
        download.cancelled.set()
        assert download.ends()
        assert isinstance(download.error, UpstreamFailed)


def test_a_download_ends_if_the_reader_of_its_pipe_closes_the_pipe(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/media/large-64.mp4")) as download:
        download.read(10)
        download.close_reader()
        assert download.ends()


@pytest.mark.parametrize("faults", ["stall=100000", "delay=30"])
def test_cancelling_a_download_wakes_its_thread_while_it_waits_for_a_silent_server(
    site: SampleSite, faults: str
) -> None:
    before = len(site.requests)
    with Running(progressive(f"{site.http}/fault/{faults}/media/prog.mp4")) as download:
        wait_for(lambda: len(site.requests) > before)
        if faults.startswith("stall"):
            download.read(10)
        download.cancelled.set()
        assert download.ends()


def extracted(url: str) -> list[dict[str, Any]]:
    with session(Ticket()) as ydl:
        ydl.add_default_info_extractors()
        info = ydl.extract_info(url, download=False)
    raw = RawMedia(info, CookieJar())
    return [raw.format(each["format_id"]) for each in info["formats"]]


def by_command_line(url: str, format_id: str, directory: Path) -> bytes:
    """Return the bytes of the file that yt-dlp's command line writes with `--fixup never`."""
    target = directory / "out"
    options = ["--ignore-config", "--quiet", "--fixup=never", "--no-part", f"--format={format_id}"]
    subprocess.run(
        [sys.executable, "-m", "yt_dlp", *options, f"--output={target}", "--", url],
        check=True,
        timeout=240,
        env={"PATH": "", "HOME": str(directory)},
    )
    return target.read_bytes()


@pytest.mark.parametrize("playlist", ["hls/ts", "hls/fmp4", "hls/aes", "hls/audio", "dash/manifest.mpd"])
def test_a_download_of_fragments_returns_the_bytes_that_the_yt_dlp_command_line_writes(
    site: SampleSite, playlist: str, tmp_path: Path
) -> None:
    url = f"{site.http}/{playlist}" + ("/master.m3u8" if playlist.startswith("hls") else "")
    info = extracted(url)[-1]
    with Running(info) as download:
        received = download.read_all()
    assert download.error is None
    assert download.count == len(received) > 100_000
    assert received == by_command_line(url, info["format_id"], tmp_path)
    assert list(Path.cwd().glob("--Frag*")) == []


def test_a_download_of_separate_audio_returns_the_bytes_that_the_yt_dlp_command_line_writes(
    site: SampleSite, tmp_path: Path
) -> None:
    url = f"{site.http}/hls/audio/master.m3u8"
    info = next(each for each in extracted(url) if each.get("vcodec") == "none")
    with Running(info) as download:
        received = download.read_all()
    assert received == by_command_line(url, info["format_id"], tmp_path)


def hls(url: str, **fields: Any) -> dict[str, Any]:
    return progressive(url, protocol="m3u8_native", **fields)


@pytest.mark.parametrize("name", ["ts", "aes", "fmp4"])
@pytest.mark.parametrize("faults", ["cut=300000", "rst=300000", "nolength"])
def test_a_fragment_whose_response_is_truncated_is_resumed(site: SampleSite, name: str, faults: str) -> None:
    """Only the fragments are truncated. The playlist is shorter than the length to which the fault truncates responses,
    and the relative URLs of the playlist lead to fragments with the same fault."""
    with Running(hls(f"{site.http}/hls/{name}/high.m3u8")) as download:
        whole = download.read_all()
    with Running(hls(f"{site.http}/fault/{faults}/hls/{name}/high.m3u8")) as download:
        received = download.read_all()
    assert download.error is None
    assert received == whole


def test_a_truncated_fragment_that_cannot_be_resumed_raises_an_error_and_no_further_byte_is_sent(
    site: SampleSite,
) -> None:
    with Running(hls(f"{site.http}/hls/ts/high.m3u8")) as download:
        whole = download.read_all()
    with Running(hls(f"{site.http}/fault/cut=300000,norange/hls/ts/high.m3u8")) as download:
        received = download.read_all()
    assert isinstance(download.error, UpstreamFailed)
    assert received == whole[:300_000]


def playlist_with(site: SampleSite, *lines: str) -> dict[str, Any]:
    """Return an HLS format whose playlist is part of the extraction. `lines` are the lines of the playlist."""
    text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, ""])
    return hls(f"{site.http}/hls/ts/high.m3u8", hls_media_playlist_data=text)


def test_a_missing_fragment_raises_an_error_and_is_not_skipped(site: SampleSite) -> None:
    info = playlist_with(
        site, "#EXTINF:2,", "high-0.ts", "#EXTINF:2,", "gone.ts", "#EXTINF:2,", "high-2.ts", "#EXT-X-ENDLIST"
    )
    with Running(info) as download:
        received = download.read_all()
    assert isinstance(download.error, UpstreamFailed)
    assert "404" in str(download.error)
    assert received == site.path("hls/ts/high-0.ts").read_bytes()


KEY_BYTES = b"0123456789abcdef"
MAP, KEY = '#EXT-X-MAP:URI="/init.mp4"', '#EXT-X-KEY:METHOD=AES-128,URI="/key"'
IMAGE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(2000)
PAGE = b"<!DOCTYPE html><title>Not found</title>" + b"<p>nothing</p>" * 200


@pytest.fixture
def shelf(site: SampleSite) -> Iterator[Shelf]:
    """Run a media server with segments of fragmented MP4 as they are (`/plain-0`) and encrypted (`/secret-0`). The IV
    of an encrypted segment is its media sequence number. The number of the first segment is 7."""
    with Shelf({"/key": KEY_BYTES, "/init.mp4": site.path("hls/fmp4/low-init.mp4").read_bytes()}) as shelf:
        for number in range(3):
            plain = site.path(f"hls/fmp4/low-{number}.m4s").read_bytes()
            shelf.files[f"/plain-{number}"] = plain
            shelf.files[f"/secret-{number}"] = aes_128(plain, KEY_BYTES, (7 + number).to_bytes(16, "big"))
        yield shelf


def playlist_of(*lines: str) -> str:
    """Return a media playlist whose first media sequence number is 7. In `lines`, each line that is no tag is the URL
    of a segment."""
    segments = (line if line.startswith("#") else f"#EXTINF:2,\n{line}" for line in lines)
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:7", *segments, ""])


def playlist_on(shelf: Shelf, *lines: str) -> dict[str, Any]:
    """Return an HLS format whose segments are on `shelf`. `lines` are those of `playlist_of`."""
    return hls(f"{shelf.url}/list.m3u8", hls_media_playlist_data=playlist_of(*lines, "#EXT-X-ENDLIST"))


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ((MAP, KEY, "secret-0", "secret-1"), ("init.mp4", "plain-0", "plain-1")),
        ((MAP, "plain-0", KEY, "secret-1"), ("init.mp4", "plain-0", "plain-1")),
        (
            (KEY, "secret-0", "#ANVATO-SEGMENT-INFO: type=ad", "gone", "#ANVATO-SEGMENT-INFO: type=master", "secret-2"),
            ("plain-0", "plain-2"),
        ),
        ((KEY, "secret-0", "#EXT-X-GAP", "gone", "secret-2"), ("plain-0", "plain-2")),
    ],
    ids=["a map before the key", "a map before what is not encrypted", "an advert that is left out", "a gap"],
)
def test_segments_are_decrypted_with_their_media_sequence_number_as_iv(
    shelf: Shelf, lines: tuple[str, ...], given: tuple[str, ...]
) -> None:
    with Running(playlist_on(shelf, *lines)) as download:
        received = download.read_all()
    assert download.error is None
    assert received == shelf.data(*(f"/{name}" for name in given))


NOT_SEGMENTS: dict[str, tuple[bytes, type[ServerPYError]]] = {
    "a page": (PAGE, NotMedia),
    "short JSON": (b'{"error":"expired"}', NotMedia),
    "an image": (IMAGE, WrongKind),
    "another format": (bytes([0x47, *bytes(187)]) * 20, WrongKind),
    "unknown bytes": (b"\xfe\0" * 2500, WrongKind),
}


@pytest.mark.parametrize("name", NOT_SEGMENTS)
def test_a_response_that_is_not_a_segment_is_requested_again_and_then_raises_an_error(shelf: Shelf, name: str) -> None:
    shelf.files["/wrong"], kind = NOT_SEGMENTS[name]
    with Running(playlist_on(shelf, MAP, "plain-0", "wrong", "plain-2")) as download:
        received = download.read_all()
    assert isinstance(download.error, kind)
    assert received == shelf.data("/init.mp4", "/plain-0")
    assert len(shelf.targets("/wrong")) == 3


@pytest.mark.parametrize("name", NOT_SEGMENTS)
def test_a_response_that_cannot_be_decrypted_to_a_segment_is_not_written_to_the_pipe(shelf: Shelf, name: str) -> None:
    shelf.files["/wrong"], _ = NOT_SEGMENTS[name]
    with Running(playlist_on(shelf, KEY, "secret-0", "wrong", "secret-2")) as download:
        received = download.read_all()
    assert isinstance(download.error, NotMedia | UpstreamFailed)
    assert received == shelf.data("/plain-0")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("/secret-1", PAGE), ("/secret-1", IMAGE), ("/key", PAGE), ("/key", b""), ("/key", bytes(16))],
    ids=["page", "image", "page for a key", "nothing for a key", "another key"],
)
def test_a_wrong_response_in_place_of_a_segment_or_its_key_is_not_used_if_the_next_one_is_right(
    shelf: Shelf, path: str, wrong: bytes
) -> None:
    shelf.files[path] = in_turn(wrong, shelf.data(path))
    with Running(playlist_on(shelf, KEY, "secret-0", "secret-1")) as download:
        received = download.read_all()
    assert download.error is None
    assert received == shelf.data("/plain-0", "/plain-1")


def test_a_web_page_in_place_of_a_fragment_raises_an_error_and_is_not_written_to_the_pipe(site: SampleSite) -> None:
    lines = ["#EXTINF:2,", "high-0.ts", "#EXTINF:2,", "/media/not-media.mp4", "#EXT-X-ENDLIST"]
    with Running(playlist_with(site, *lines)) as download:
        received = download.read_all()
    assert isinstance(download.error, NotMedia)
    assert received == site.path("hls/ts/high-0.ts").read_bytes()


TEXTS = {
    "a word": b"no",
    "short JSON": b'{"error":"expired"}',
    "JSON of 63 bytes": b'{"error":"%s"}' % (b"x" * 51),
    "JSON of 64 bytes": b'{"error":"%s"}' % (b"x" * 52),
    "a page": PAGE,
}


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("step", [10, 1000])
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_place_of_a_fragment_is_refused_whatever_its_length_and_however_it_is_split(
    name: str, step: int, encrypted: bool
) -> None:
    given: list[bytes] = []
    plain = Plain(given.append, Judge(strict=True).check)
    into = Decrypted(plain, KEY_BYTES, bytes(16)) if encrypted else plain
    text = aes_128(TEXTS[name], KEY_BYTES, bytes(16)) if encrypted else TEXTS[name]
    with pytest.raises(NotMedia):
        put(into, text, step)
    assert given == []


@pytest.mark.parametrize(
    "media", [b"\0\0\0\x08free", b"WEBVTT\n\n", bytes([0x47, *bytes(187)]), b"a" * 20 + bytes(400)]
)
@pytest.mark.parametrize("step", [1, 10, 1000])
def test_a_short_fragment_that_is_media_is_passed_on_unchanged(media: bytes, step: int) -> None:
    given: list[bytes] = []
    put(Plain(given.append, Judge(strict=True).check), media, step)
    assert b"".join(given) == media


def put(into: Plain | Decrypted, data: bytes, step: int) -> None:
    for at in range(0, len(data), step):
        into.add(data[at : at + step])
    into.finish()


def test_a_short_text_in_place_of_a_fragment_raises_an_error(site: SampleSite) -> None:
    lines = ["#EXTINF:2,", "high-0.ts", "#EXTINF:2,", "#EXT-X-BYTERANGE:20@0", "high.m3u8", "#EXT-X-ENDLIST"]
    with Running(playlist_with(site, *lines)) as download:
        received = download.read_all()
    assert isinstance(download.error, NotMedia)
    assert received == site.path("hls/ts/high-0.ts").read_bytes()


def test_padding_after_a_playlist_does_not_count_as_a_fragment(site: SampleSite) -> None:
    with Running(playlist_with(site, "#EXTINF:2,", "high-0.ts", "#EXT-X-ENDLIST", "\0\0")) as download:
        received = download.read_all()
    assert download.error is None
    assert received == site.path("hls/ts/high-0.ts").read_bytes()


@pytest.mark.parametrize("order", [1, -1])
def test_a_playlist_with_keys_of_several_key_formats_is_refused_without_a_byte(site: SampleSite, order: int) -> None:
    keys = ['#EXT-X-KEY:METHOD=AES-128,URI="k"', '#EXT-X-KEY:METHOD=AES-128,URI="o",KEYFORMAT="com.example"'][::order]
    with Running(playlist_with(site, *keys, "#EXTINF:2,", "high-0.ts", "#EXT-X-ENDLIST")) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, UnsupportedConversion)


def test_byte_ranges_of_one_file_are_downloaded_or_raise_an_error_if_the_media_server_ignores_ranges(
    site: SampleSite,
) -> None:
    ranges = ["#EXTINF:2,", "#EXT-X-BYTERANGE:1880@0", "high-0.ts", "#EXTINF:2,", "#EXT-X-BYTERANGE:940", "high-0.ts"]
    with Running(playlist_with(site, *ranges, "#EXT-X-ENDLIST")) as download:
        assert download.read_all() == site.path("hls/ts/high-0.ts").read_bytes()[:2820]
    info = playlist_with(site, *ranges, "#EXT-X-ENDLIST")
    with Running({**info, "url": f"{site.http}/fault/norange/hls/ts/high.m3u8"}) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, UpstreamFailed)


def test_the_byte_range_of_an_advert_that_is_left_out_does_not_apply_to_the_next_segment(site: SampleSite) -> None:
    advert = ("#ANVATO-SEGMENT-INFO: type=ad", "#EXT-X-BYTERANGE:1000@100", "high-1.ts")
    film = ("#ANVATO-SEGMENT-INFO: type=master", "#EXTINF:2,", "high-0.ts", "#EXT-X-ENDLIST")
    with Running(playlist_with(site, *advert, *film)) as download:
        assert download.read_all() == site.path("hls/ts/high-0.ts").read_bytes()
    assert download.error is None


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (("  #EXT-X-KEY:METHOD=SAMPLE-AES,URI=k", "#EXTINF:2,", "high-0.ts", "#EXT-X-ENDLIST"), "drm_protected"),
        (("#EXTINF:2,", "high-0.ts"), "unsupported_conversion"),
        (('#EXT-X-KEY:URI="k",METHOD=SAMPLE-AES', "#EXTINF:2,", "high-0.ts", "#EXT-X-ENDLIST"), "drm_protected"),
        (('#EXT-X-KEY:METHOD=AES-256,URI="k"', "high-0.ts", "#EXT-X-ENDLIST"), "unsupported_conversion"),
        (('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://k"', "high-0.ts", "#EXT-X-ENDLIST"), "drm_protected"),
        ((MAP, "high-0.ts", MAP, "high-1.ts", "#EXT-X-ENDLIST"), "unsupported_conversion"),
        (("#EXT-X-STREAM-INF:BANDWIDTH=1", "low.m3u8", "#EXT-X-ENDLIST"), "upstream_failed"),
        (("#EXT-X-ENDLIST",), "upstream_failed"),
    ],
    ids=["sample-aes behind blanks", "live", "sample-aes", "aes-256", "drm", "map", "master", "empty"],
)
def test_a_playlist_that_embedded_cannot_download_raises_the_expected_error(
    site: SampleSite, lines: tuple[str, ...], code: str
) -> None:
    with Running(playlist_with(site, *lines)) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, ServerPYError)
    assert download.error.code == code


@pytest.mark.parametrize("protocol", ["rtmp", "niconico_live", "websocket_frag", "ftp", "no-such-thing"])
def test_a_protocol_that_needs_another_program_raises_an_error(site: SampleSite, protocol: str) -> None:
    with Running(progressive(f"{site.http}/media/prog.mp4", protocol=protocol)) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, UnsupportedConversion)


def test_a_file_with_a_chunk_size_is_requested_in_consecutive_chunks(site: SampleSite) -> None:
    before = len(site.requests)
    info = progressive(f"{site.http}/media/prog.mp4", downloader_options={"http_chunk_size": 1 << 20})
    with Running(info) as download:
        assert download.read_all() == site.path("prog.mp4").read_bytes()
    asked = [request.headers.get("range") for request in site.requests[before:]]
    assert len(asked) == 6
    assert all(each and each.startswith("bytes=") for each in asked)


@pytest.mark.parametrize("option", ["format", "global"])
def test_media_that_requires_impersonation_is_downloaded_by_requests_with_bounded_ranges(
    site: SampleSite, option: str
) -> None:
    """If the range were unbounded, curl_cffi would buffer the whole body in memory while the reader of the pipe does
    not read."""
    before = len(site.requests)
    url = f"{site.http}/media/prog.mp4"
    target = ImpersonateTarget("chrome")
    running = (
        Running(progressive(url, impersonate="chrome"))
        if option == "format"
        else Running(progressive(url), impersonate=target)
    )
    with running as download:
        assert download.read_all() == site.path("prog.mp4").read_bytes()
    asked = [request.headers["range"] for request in site.requests[before:]]
    assert len(asked) == 6


def test_media_that_requires_impersonation_is_refused_if_its_server_has_no_range_support(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/fault/norange/media/prog.mp4", impersonate="chrome")) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, UpstreamFailed)
    assert "impersonation" in str(download.error)


def test_cancelling_a_download_ends_the_wait_for_media_that_becomes_available_later(site: SampleSite) -> None:
    info = progressive(f"{site.http}/media/prog.mp4", available_at=time.time() + 30)
    with Running(info) as download:
        download.cancelled.set()
        assert download.ends()


def test_a_download_leaves_no_connection_or_file_descriptor_or_thread_open(site: SampleSite) -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with Running(progressive(f"{site.http}/media/prog.mp4")) as download:
        download.read_all()
    wait_for(lambda: site.open_connections == 0)
    before = left()
    for _ in range(5):
        with Running(progressive(f"{site.http}/media/prog.mp4")) as download:
            download.read(10)
        with Running(hls(f"{site.http}/fault/stall=100000/hls/ts/high.m3u8")) as download:
            download.read(10)
    # The number of threads may be lower than before, because a thread of the first download ends shortly after that
    # download.
    wait_for(lambda: site.open_connections == 0 and all(map(operator.le, left(), before)), lambda: (left(), before))


@pytest.mark.parametrize("target", [None, "chrome"], ids=["requests", "curl_cffi"])
@pytest.mark.parametrize("url", ["http://10.0.0.1/x.mp4", "https://10.0.0.1/x.mp4"])
def test_a_media_url_that_the_guard_refuses_raises_target_forbidden(url: str, target: str | None) -> None:
    with Running(progressive(url, impersonate=target)) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, TargetForbidden)
    assert "10.0.0.1" not in str(download.error)


def test_a_fragment_url_that_the_guard_refuses_raises_target_forbidden(site: SampleSite) -> None:
    lines = ["#EXTINF:2,", "high-0.ts", "#EXTINF:2,", "http://169.254.169.254/latest", "#EXT-X-ENDLIST"]
    with Running(playlist_with(site, *lines)) as download:
        assert download.read_all() == site.path("hls/ts/high-0.ts").read_bytes()
    assert isinstance(download.error, TargetForbidden)


@pytest.mark.parametrize("target", [None, "chrome"], ids=["requests", "curl_cffi"])
def test_a_download_over_https_returns_the_bytes_of_the_file(site: SampleSite, target: str | None) -> None:
    info = progressive(f"{site.https}/media/prog.mp4", impersonate=target)
    with Running(info, nocheckcertificate=True) as download:
        assert download.read_all() == site.path("prog.mp4").read_bytes()
    assert download.error is None


def test_cancelling_a_download_aborts_its_request_with_impersonation(site: SampleSite) -> None:
    before = len(site.requests)
    info = progressive(f"{site.http}/fault/stall=100000/media/prog.mp4", impersonate="chrome")
    with Running(info) as download:
        wait_for(lambda: len(site.requests) > before)
        download.cancelled.set()
        assert download.ends()


def test_a_download_that_waits_for_a_silent_server_ends_if_the_reader_of_its_pipe_leaves(site: SampleSite) -> None:
    with Running(progressive(f"{site.http}/fault/stall=100000/media/prog.mp4")) as download:
        received = 0
        while received < 100_000:
            received += len(download.read())
        download.close_reader()
        assert download.ends()


@pytest.mark.parametrize("playlist", [False, True], ids=["progressive", "hls-aes"])
def test_while_the_reader_is_slow_the_pipe_stays_full_and_memory_does_not_grow(
    site: SampleSite, playlist: bool
) -> None:
    url = f"{site.http}/hls/aes/high.m3u8" if playlist else f"{site.http}/media/large-64.mp4"
    with Running(hls(url) if playlist else progressive(url)) as download:
        download.read_all()  # the first download imports modules and fills caches, so it is not measured
    tracemalloc.start()
    try:
        with Running(hls(url) if playlist else progressive(url)) as download:
            for _ in range(16):
                download.read(65536)
                wait_for(lambda: waiting_in(download.reader) >= 65536 - 4096)
            held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 700_000, (held, peak)


def waiting_in(pipe: int) -> int:
    return int(array("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])
