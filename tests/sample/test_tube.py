"""Tests of the server part of SampleTube, the sample site's imitation of a video site, without yt-dlp. The server part
refuses requests that do not belong to one of its sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverpy.sample import SampleSite
from serverpy.sample.catalogue import CHUNK_BYTES, POST_BODY

from .raw import ask


def visit(site: SampleSite, path: str) -> tuple[dict[str, Any], str, str]:
    """Return the description of a page from SampleTube's API, and the Cookie and X-Tube-Token headers that requests for
    its media need."""
    cookie = ask(f"{site.http}/tube/{path}").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "Path=/tube/media;" in cookie
    data = json.loads(ask(f"{site.http}/tube/api/{path}").body)
    return data, f"Cookie: {cookie.partition(';')[0]}", f"X-Tube-Token: {data['token']}"


def test_sampletube_media_requires_the_token_header_and_the_session_cookie(site: SampleSite) -> None:
    data, cookie, token = visit(site, "watch/headers")
    url = site.http + data["formats"][0]["path"]
    assert ask(url, cookie, token, method="HEAD").status == 200
    for headers in ([], [cookie], [token], [cookie, "X-Tube-Token: x"], ["Cookie: tube_session=x", token]):
        assert ask(url, *headers).status == 403


@pytest.mark.parametrize(
    ("range", "status"),
    [
        (f"0-{CHUNK_BYTES - 1}", 206),
        (f"100-{CHUNK_BYTES + 99}", 206),
        ("-100", 206),
        (f"0-{CHUNK_BYTES}", 403),
        ("0-", 403),
        (f"-{CHUNK_BYTES + 1}", 403),
        ("", 403),
    ],
)
def test_sampletube_media_marked_as_chunked_requires_small_ranges(site: SampleSite, range: str, status: int) -> None:
    data, *headers = visit(site, "watch/chunked")
    assert data["formats"][0]["chunk_bytes"] == CHUNK_BYTES
    answer = ask(site.http + data["formats"][0]["path"], *headers, *([f"Range: bytes={range}"] if range else []))
    assert answer.status == status


def test_sampletube_media_requested_by_post_requires_the_signed_request_body(site: SampleSite) -> None:
    data, *headers = visit(site, "watch/post")
    url = site.http + data["formats"][0]["path"]
    assert data["formats"][0]["post_body"] == POST_BODY.decode()
    assert ask(url, *headers, method="POST", body=POST_BODY).body == site.path("prog.mp4").read_bytes()
    assert ask(url, *headers, method="POST", body=b"other").status == 403
    assert ask(url, *headers).status == 403


def test_before_media_becomes_available_sampletube_refuses_the_token_of_its_url(site: SampleSite) -> None:
    data, *headers = visit(site, "watch/later")
    assert ask(site.http + data["formats"][0]["path"], *headers).status == 403
