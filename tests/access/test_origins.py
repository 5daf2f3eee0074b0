"""Tests of the detection of cross-origin requests."""

from __future__ import annotations

import pytest

from serverpy.access.origins import is_of_other_origin

HOST = "media.example:8000"


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({}, False),
        ({"origin": f"http://{HOST}"}, False),
        ({"origin": "HTTP://Media.Example:8000"}, False),
        ({"origin": "https://public.example"}, False),
        ({"origin": "https://public.example:8443"}, False),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "http://media.example:9000"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "http://[::1"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://renamed.by.a.proxy"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": f"http://{HOST}"}, True),
    ],
)
def test_a_request_from_a_page_of_another_origin_is_detected_by_sec_fetch_site_or_origin(
    fields: dict[str, str], other: bool
) -> None:
    sent = [(b"host", HOST.encode()), *((name.encode(), value.encode()) for name, value in fields.items())]
    assert is_of_other_origin(sent, {"public.example"}) is other


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({"origin": "https://app.example"}, False),
        ({"origin": "https://app.example", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "https://app.example", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://app.example.evil.example", "sec-fetch-site": "cross-site"}, True),
        ({"origin": "http://app.example"}, True),
        ({"origin": "https://app.example:8443"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
    ],
)
def test_an_allowed_origin_counts_as_the_own_origin_of_the_server(fields: dict[str, str], other: bool) -> None:
    sent = [(b"host", HOST.encode()), *((name.encode(), value.encode()) for name, value in fields.items())]
    assert is_of_other_origin(sent, (), {"https://app.example"}) is other


@pytest.mark.parametrize(
    ("forwarded", "by_trusted_proxy", "other"),
    [
        ("shown.example", True, False),
        ("Shown.Example, inner.example", True, False),
        ("inner.example, shown.example", True, True),
        ("", True, True),
        ("shown.example", False, True),
    ],
)
def test_x_forwarded_host_is_compared_with_the_origin_only_if_a_trusted_proxy_sent_that_field(
    forwarded: str, by_trusted_proxy: bool, other: bool
) -> None:
    sent = [
        (b"host", b"127.0.0.1:8000"),
        (b"origin", b"https://shown.example"),
        (b"x-forwarded-host", forwarded.encode()),
    ]
    assert is_of_other_origin(sent, by_trusted_proxy=by_trusted_proxy) is other
    assert is_of_other_origin([(b"origin", b"null"), (b"x-forwarded-host", b"")], by_trusted_proxy=True)
