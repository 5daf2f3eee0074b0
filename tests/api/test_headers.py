"""Tests of the response headers that control caching, that state which pages may embed or read a response, and that
restrict what media may do in a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serverpy import Settings, create_app
from serverpy.api.request_reader import TOO_LONG
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving

ORIGIN = "https://app.example"
MEDIA = ("/page/prog", "/media/audio.mp3", "/page/hls-ts", "/tube/watch/pair")


@pytest.mark.parametrize("page", MEDIA)
@pytest.mark.parametrize("method", ["auto", "embedded"])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_responses_with_media_require_caches_to_revalidate_them(
    server: Server, page: str, method: str, verb: str
) -> None:
    if (page, method) == ("/tube/watch/pair", "embedded"):
        return  # embedded answers 422 for separate video and audio tracks
    answer = server.get(page, verb=verb, method=method)
    assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-cache")
    if answer.headers["accept-ranges"] == "bytes":
        again = server.get(page, verb=verb, method=method, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.headers["cache-control"]) == (304, "private, no-cache")


@pytest.mark.parametrize("start", [{}, {"start": 0}, {"start": -5}])
@pytest.mark.parametrize("page", ["page", "tube"])
def test_live_streams_are_sent_with_cache_control_no_store(
    server: Server, site: SampleSite, page: str, start: dict[str, Any]
) -> None:
    """For one page, the extraction states that the broadcast is live. For the other page, only the playlist shows
    that."""
    spec = f"clock=step,id=headers-{page}"
    site.broadcast(spec).step(3)
    with server.open(f"/{page}/live/{spec}", receive_bytes=4096, **start) as exchange:
        assert exchange.status == 200
        assert exchange.headers["cache-control"] == "no-store"
        assert "etag" not in exchange.headers
    server.settled()


@pytest.mark.parametrize(
    ("verb", "target", "status"),
    [
        *(("GET", path, 200) for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json")),
        ("HEAD", "/ready", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/stream", 405),
        ("GET", "/stream", 400),
        ("GET", "/info?url=ftp://x", 400),
        ("GET", "/stream?url=http://127.0.0.1:1/", 403),
        ("GET", f"/ready?{'x' * 40_000}", 414),
    ],
)
def test_statistics_and_errors_are_sent_with_cache_control_no_store(
    server: Server, verb: str, target: str, status: int
) -> None:
    answer = server.ask(target, verb=verb)
    assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-site"


@pytest.mark.parametrize(
    ("fetch_site", "policy"), [("same-site", "cross-origin"), ("cross-site", "same-site"), ("none", "same-site")]
)
def test_only_pages_of_the_same_site_may_embed_media(server: Server, fetch_site: str, policy: str) -> None:
    answer = server.get("/page/prog", verb="HEAD", headers={"Sec-Fetch-Site": fetch_site})
    assert answer.headers["cross-origin-resource-policy"] == policy


def test_info_is_sent_with_cache_control_no_store(server: Server) -> None:
    assert server.get("/page/prog", path="/info").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("page", MEDIA)
def test_the_content_security_policy_of_media_forbids_scripts_but_has_no_sandbox(server: Server, page: str) -> None:
    headers = server.get(page, verb="HEAD").headers
    policy = {each.strip() for each in headers["content-security-policy"].split(";")}
    assert {"script-src 'none'", "object-src 'none'"} <= policy
    assert not any(each.startswith("sandbox") for each in policy)
    assert headers["x-content-type-options"] == "nosniff"


def test_the_log_line_of_a_stream_names_its_client_and_host_and_site_and_status(site: SampleSite) -> None:
    host = re.escape(site.http.removeprefix("http://"))
    with serving(site, log_level="info") as server:
        server.get("/page/prog?key=secret", headers={"Range": "bytes=0-9"})
        server.get("/page/prog?key=secret", headers={"Range": "bytes=99999999-"})
        server.get("/tube/watch/geo")
        server.get("ftp://user:secret@x/")
        server.get("http://127.0.0.1:1/secret")
        lines = [
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} html5 206 relay: complete, 10 bytes in \d",
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} html5 416 relay: range_not_satisfiable, 0 bytes in \d",
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} - 403 -: geo_restricted, 0 bytes in \d",
            r"[0-9a-f]{16} 127\.0\.0\.1 - - 400 -: invalid_url, 0 bytes in \d",
            r"[0-9a-f]{16} 127\.0\.0\.1 127\.0\.0\.1:1 - 403 -: target_forbidden, 0 bytes in \d",
        ]
        wait_for(lambda: all(re.search(line, server.log) for line in lines), lambda: server.log)
        assert "secret" not in server.log


# Cross-origin requests (CORS)


@asynccontextmanager
async def calling(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(**settings), checks_host=True)
    add_bugs(app)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def add_bugs(app: FastAPI) -> None:
    """Add the route `/bug`, which raises an unexpected exception, and mark requests for `/long` as too long. The mark
    is necessary because, outside of this test, only ServerPY's own HTTP protocol class sets it."""

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("unforeseen")

    inner = app.build_middleware_stack()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            scope["extensions"] = {TOO_LONG: "headers"}
        await inner(scope, receive, send)

    app.middleware_stack = outer


EVERY = [
    *(
        ("GET", target, {}, status)
        for target, status in (("/docs", 200), ("/nowhere", 404), ("/bug", 500), ("/long", 431))
    ),
    ("POST", "/stream", {}, 405),
    ("GET", "/info", {}, 400),
    ("GET", "/stream?item=0&url=http://x/", {}, 400),
    ("GET", "/nowhere", {"Host": "evil.example"}, 421),
    ("OPTIONS", "/stream", {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}, 200),
]


@pytest.mark.parametrize(("verb", "target", "headers", "status"), EVERY)
async def test_a_page_of_an_allowed_origin_can_read_every_response(
    verb: str, target: str, headers: dict[str, str], status: int
) -> None:
    async with calling(cors_origins=ORIGIN) as client:
        answer = await client.request(verb, target, headers={"Origin": ORIGIN, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        other = await client.request(verb, target, headers={"Origin": "https://other.example", **headers})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/stream", "/info", "/login", "/links", "/s/token/media.mp4", "/streams/1", "/ready"])
async def test_a_preflight_request_of_a_page_of_an_allowed_origin_needs_no_key(
    verb: str, path: str, tmp_path: Path
) -> None:
    """A browser sends a preflight request without credentials. From a page of the public internet to an address in a
    private network, it also asks for permission to reach a private network."""
    keys = tmp_path / "keys.toml"
    keys.touch()
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": verb,
        "Access-Control-Request-Headers": "authorization,content-type,range",
        "Access-Control-Request-Private-Network": "true",
    }
    async with calling(cors_origins=ORIGIN, require_key=True, api_keys_file=keys) as client:
        answer = await client.options(path, headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type,range"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-private-network"] == "true"
        refused = await client.options(path, headers={**asked, "Origin": "https://other.example"})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(("verb", "target", "headers", "status"), EVERY[:-1])
async def test_a_page_of_another_origin_cannot_read_a_response_if_no_origins_are_allowed(
    verb: str, target: str, headers: dict[str, str], status: int
) -> None:
    async with calling() as client:
        answer = await client.request(verb, target, headers={"Origin": ORIGIN, **headers})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-site"
