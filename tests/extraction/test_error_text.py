"""Tests that an error message of yt-dlp is translated to the same ServerPY error, whether yt-dlp raises it in the
worker or a child process prints it."""

from __future__ import annotations

import pytest
from yt_dlp.utils import ExtractorError

from serverpy.errors import (
    Busy,
    DrmProtected,
    ExtractionFailed,
    GeoRestricted,
    LoginRequired,
    MediaNotFound,
    ServerPYError,
    TargetForbidden,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.error_text import kind_of, refusal, refused_tunnel
from serverpy.streaming.child.errors import page_error
from serverpy.ytdlp.faults import translate


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("This video is DRM protected", DrmProtected),
        ("This video is not available from your location due to geo restriction", GeoRestricted),
        ("Private video. Sign in if you've been granted access to this video", MediaNotFound),
        ("Video unavailable. This video has been removed by the uploader", MediaNotFound),
        ("This account has been terminated", MediaNotFound),
        ("Join this channel to get access to members-only content", LoginRequired),
        ("This video requires an account", LoginRequired),
        ("Something else", None),
    ],
)
def test_a_yt_dlp_message_is_translated_to_the_same_error_in_the_worker_and_in_the_output_of_a_child(
    sentence: str, kind: type[ServerPYError] | None
) -> None:
    assert kind_of(sentence) is kind
    in_the_worker = translate(ExtractorError(sentence, expected=True))
    of_a_child = page_error(f"ERROR: [site:subscription] 1: {sentence}\n")
    assert type(in_the_worker) is type(of_a_child) is (kind or ExtractionFailed)


@pytest.mark.parametrize(
    "text",
    [
        "Unable to download webpage: HTTP Error 503: Service Unavailable",
        "HTTP Error 511: Network Authentication Required (caused by <HTTPError 511: Network Authentication Required>)",
        "Failed to open https://premium.example/log-in?private",
        "HTTPSConnectionPool(host='private.example', port=443): Max retries exceeded",
    ],
)
def test_http_reason_phrases_and_ip_addresses_in_a_message_do_not_determine_the_error_class(text: str) -> None:
    assert kind_of(text) is None


@pytest.mark.parametrize(("status", "kind"), [(401, LoginRequired), (404, MediaNotFound), (410, MediaNotFound)])
def test_the_http_statuses_401_and_404_and_410_in_a_message_determine_the_error_class(
    status: int, kind: type[ServerPYError]
) -> None:
    assert kind_of(f"Unable to download JSON metadata: HTTP Error {status}: Phrase") is kind


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "target_forbidden", TargetForbidden),
        (502, "upstream_failed", UpstreamFailed),
        (503, "busy", Busy),
        (504, "upstream_timeout", UpstreamTimeout),
    ],
)
def test_a_refusal_by_the_egress_proxy_is_recognised_by_its_error_code_or_status(
    status: int, code: str, kind: type[ServerPYError]
) -> None:
    assert type(refusal(code)) is kind
    assert type(refused_tunnel(f"Unable to connect to proxy: Tunnel connection failed: {status} Phrase")) is kind
    assert type(refused_tunnel(f"curl: (56) CONNECT tunnel failed, response {status}")) is kind


def test_other_error_codes_and_texts_do_not_count_as_refusals_by_the_egress_proxy() -> None:
    assert refusal(None) is refusal("invalid_parameter") is refused_tunnel("Tunnel connection failed: 407 No") is None
    assert refused_tunnel("the server gave response code 503") is None
