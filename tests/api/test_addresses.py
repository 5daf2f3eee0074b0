"""Tests of the base URL of absolute links. Only a trusted proxy may determine this base URL by its header fields."""

from __future__ import annotations

from typing import Any

import pytest

from serverpy.api.addresses import base_of

PROXY = "192.0.2.1"
FORWARDED = {"X-Forwarded-Host": "media.example", "X-Forwarded-Proto": "https"}


def scope(*, client: str | None = PROXY, root_path: str = "", scheme: str = "http", **fields: str) -> dict[str, Any]:
    headers = [(name.replace("_", "-").lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    return {
        "type": "http", "scheme": scheme, "root_path": root_path, "headers": headers,
        "client": None if client is None else (client, 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "is_trusted", "base"),
    [
        ({"Host": "box:8000"}, False, "http://box:8000"),
        ({"Host": "box:8000"}, True, "http://box:8000"),
        ({"Host": "box:8000", **FORWARDED}, False, "http://box:8000"),
        ({"Host": "box:8000", **FORWARDED}, True, "https://media.example"),
        ({"Host": "box", "X-Forwarded-Proto": "HTTPS"}, True, "https://box"),
        ({"Host": "box", "X-Forwarded-Proto": "javascript"}, True, "http://box"),
        ({"Host": "box", "X-Forwarded-Host": "a.example:8443, b.example"}, True, "http://a.example:8443"),
        ({"Host": "box", "X-Forwarded-Host": "evil/path?"}, True, "http://box"),
        ({"Host": "box", "X-Forwarded-Host": "user@evil"}, True, "http://box"),
        ({"Host": "box", "X-Forwarded-Host": ""}, True, "http://box"),
        ({"Host": "[2001:db8::1]:80"}, False, "http://[2001:db8::1]:80"),
        ({"Host": "a b"}, False, "http://127.0.0.1:8000"),
        ({}, False, "http://127.0.0.1:8000"),
    ],
)
def test_an_absolute_link_begins_with_the_host_of_the_request_or_the_host_that_a_trusted_proxy_forwards(
    fields: dict[str, str], is_trusted: bool, base: str
) -> None:
    assert base_of(scope(**fields), None, is_trusted=is_trusted) == base


def test_public_url_takes_precedence_over_the_host_of_the_request_and_of_a_trusted_proxy() -> None:
    asked = scope(Host="box", root_path="/films", **FORWARDED)
    assert base_of(asked, "https://public.example/x/", is_trusted=True) == "https://public.example/x"


@pytest.mark.parametrize(
    ("public_url", "base"),
    [
        ("https://public.example", "https://public.example/films"),
        ("https://public.example:8443/", "https://public.example:8443/films"),
        ("https://public.example/films", "https://public.example/films"),
        ("https://public.example/films/", "https://public.example/films"),
        ("https://public.example/x", "https://public.example/x"),
    ],
)
def test_the_root_path_is_appended_to_a_public_url_without_a_path(public_url: str, base: str) -> None:
    assert base_of(scope(Host="box", root_path="/films"), public_url, is_trusted=False) == base


def test_an_absolute_link_contains_the_root_path() -> None:
    assert base_of(scope(Host="box", root_path="/films/"), None, is_trusted=False) == "http://box/films"
    assert base_of(scope(Host="box", scheme="https"), None, is_trusted=False) == "https://box"
