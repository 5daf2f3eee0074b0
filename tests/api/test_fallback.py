"""Tests of method `auto`, which falls back from `relay` to `embedded` if a media server accepts yt-dlp's HTTP client
but not ServerPY's. Over https, the sample site distinguishes the two clients by ALPN (its fault `noalpn`)."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import pytest

from serverpy.engine import Engine
from serverpy.errors import Busy
from serverpy.plan import StreamRequest
from serverpy.sample.site import SampleSite
from serverpy.settings import load_settings
from tests.aio import eventually
from tests.server import Server, serving

TRANSPORT = ("status=403", "status=400", "status=503", "rst=0", "cut=0", "malformed")
WHOLE = {"Range": "bytes=0-"}
PAGE_BYTES = 40_000
"""A number of bytes that is more than the extraction of a page takes, and less than `embedded` needs in addition to
`relay`."""


@pytest.fixture(scope="module")
def server(site: SampleSite) -> Iterator[Server]:
    """Run a separate server for this module, because a server remembers for which media servers the method `relay` has
    failed."""
    with serving(site, wait_seconds=30, stall_timeout=30, connect_timeout=30) as running:
        yield running


def fallbacks(server: Server) -> int:
    (line,) = (
        line for line in server.ask("/metrics").body.splitlines() if line.startswith(b"serverpy_fallbacks_total ")
    )
    return int(float(line.split()[1]))


def page_of(site: SampleSite, fault: str, host: str = "127.0.0.1") -> str:
    assert site.https is not None
    return f"{site.https.replace('127.0.0.1', host)}/page/fault/{fault}/prog.mp4"


@pytest.mark.parametrize("fault", TRANSPORT)
def test_auto_sends_the_whole_file_by_embedded_if_the_transport_of_relay_fails(
    server: Server, site: SampleSite, fault: str
) -> None:
    before = fallbacks(server)
    answer = server.get(page_of(site, f"noalpn,{fault}"), headers=WHOLE)
    assert (answer.status, answer.headers["x-serverpy-method"]) == (200, "embedded")
    assert answer.headers["accept-ranges"] == "none"
    assert answer.complete
    assert answer.body == site.path("prog.mp4").read_bytes()
    assert fallbacks(server) == before + 1
    assert "cannot be opened by the method relay, so the server tries the method embedded: " in server.log
    server.settled()


def test_auto_sends_hls_by_embedded_if_the_media_server_refuses_relay(server: Server, site: SampleSite) -> None:
    answer = server.get(f"{site.https}/fault/noalpn,status=403/hls/ts/high.m3u8", headers=WHOLE)
    # yt-dlp's generic extractor can read the playlist: the site serves it to yt-dlp's HTTP client.
    assert (answer.status, answer.headers["x-serverpy-method"]) == (200, "embedded")
    assert answer.body == b"".join(site.path(f"hls/ts/high-{n}.ts").read_bytes() for n in range(5))


@pytest.mark.parametrize(
    ("fault", "headers", "params", "status", "code"),
    [
        ("noalpn,status=403", WHOLE, {"method": "relay"}, 502, "upstream_failed"),
        ("noalpn,status=403", {"Range": "bytes=1000-"}, {}, 502, "upstream_failed"),
        ("noalpn,malformed", {"Range": "bytes=-1000"}, {}, 502, "upstream_failed"),
        ("noalpn,malformed", {"Range": "bytes=0-1"}, {}, 502, "upstream_failed"),
        ("noalpn,status=404", WHOLE, {}, 502, "upstream_failed"),
        ("noalpn,status=410", WHOLE, {}, 502, "upstream_failed"),
    ],
)
def test_a_request_that_auto_may_not_repeat_by_embedded_fails_with_the_error_of_relay(
    server: Server,
    site: SampleSite,
    fault: str,
    headers: dict[str, str],
    params: dict[str, str],
    status: int,
    code: str,
) -> None:
    before = fallbacks(server)
    answer = server.get(page_of(site, fault), headers=headers, **params)
    assert (answer.status, answer.code) == (status, code)
    assert fallbacks(server) == before


def test_auto_does_not_fall_back_to_embedded_if_the_media_is_a_web_page(server: Server) -> None:
    before = fallbacks(server)
    answer = server.get("/page/html-media")
    assert (answer.status, answer.code) == (415, "not_media")
    assert fallbacks(server) == before


def test_the_metrics_count_responses_that_exceed_a_bound(server: Server) -> None:
    """The server requests a response head with too many fields only once: neither a request without Range, nor a new
    extraction, nor yt-dlp's client can help."""

    def count() -> float:
        text = server.ask("/metrics").body.decode()
        (found,) = re.findall(r'^serverpy_upstream_bounds_exceeded_total\{bound="fields"\} (\S+)$', text, re.MULTILINE)
        return float(found)

    before = count(), fallbacks(server)
    answer = server.get("/page/fault/fields=200/prog.mp4", headers=WHOLE)
    assert (answer.status, answer.code) == (502, "upstream_failed")
    assert (count(), fallbacks(server)) == (before[0] + 1, before[1])
    assert 'bound="playlists"' in server.ask("/metrics").body.decode()


def test_auto_reports_the_error_of_embedded_if_both_relay_and_embedded_fail(server: Server) -> None:
    before = fallbacks(server)
    assert server.get("/page/fault/status=403/prog.mp4").code == "upstream_failed"
    assert fallbacks(server) == before + 1


def test_auto_uses_embedded_at_once_for_whole_files_of_a_media_server_that_has_refused_relay(
    server: Server, site: SampleSite
) -> None:
    """The URL of the media has the host `localhost`, which no other test uses: the server remembers media servers by
    host and port."""
    before = fallbacks(server)
    head = server.get(page_of(site, "noalpn,status=403,id=memory", "localhost"), verb="HEAD")
    assert (head.status, head.headers["x-serverpy-method"]) == (200, "embedded")
    good = page_of(site, "id=good", "localhost")
    answer = server.get(good)
    assert answer.headers["x-serverpy-method"] == "embedded"
    assert answer.body == site.path("prog.mp4").read_bytes()
    assert server.get(good, headers=WHOLE).headers["x-serverpy-method"] == "relay"
    part = server.get(good, headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.headers["x-serverpy-method"]) == (206, "relay")
    assert server.get(good, method="relay").headers["x-serverpy-method"] == "relay"
    assert fallbacks(server) == before + 1


async def test_if_no_memory_is_free_auto_tries_relay_but_refuses_the_fallback_to_embedded_as_busy(
    site: SampleSite,
) -> None:
    assert site.https is not None
    settings = load_settings(
        allow_networks=site.https.removeprefix("https://"), ca_file=site.ca_file, wait_seconds=0.1, stall_timeout=30
    )
    refused, good = (StreamRequest(url=page_of(site, fault)) for fault in ("noalpn,status=403,id=room", "id=room"))
    async with Engine(settings) as engine:
        relay_bytes = engine.delivery.capabilities.admission_bytes

        async def method_of(request: StreamRequest, *, is_full: bool) -> str:
            taken = await engine.budget.reserve(engine.budget.total_bytes - relay_bytes - PAGE_BYTES if is_full else 0)
            try:
                async with engine.open(request) as stream:
                    return stream.method
            finally:
                taken.release()

        with pytest.raises(Busy):
            await method_of(refused, is_full=True)
        assert engine.budget.streams == 0
        assert await method_of(good, is_full=False) == "relay"
        assert await method_of(refused, is_full=False) == "embedded"
        assert await method_of(good, is_full=False) == "embedded"
        assert await method_of(good, is_full=True) == "relay"
        assert await method_of(good, is_full=False) == "relay"
        assert (engine.delivery.fallbacks, engine.budget.streams) == (2, 0)
        await eventually(lambda: gc.collect() is not None and not engine.budget.used_bytes)
