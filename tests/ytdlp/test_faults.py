"""Tests that errors of yt-dlp are translated to ServerPY errors, with messages that any client may see."""

from __future__ import annotations

import sys

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.networking.exceptions import HTTPError, ProxyError, RequestError, TransportError
from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

from serverpy import extras
from serverpy.errors import (
    DrmProtected,
    ExtractionFailed,
    ExtractionTimeout,
    GeoRestricted,
    LoginRequired,
    MediaNotFound,
    NotInstalled,
    ServerPYError,
    SiteForbidden,
    TargetForbidden,
    UpstreamFailed,
)
from serverpy.sample.site import SampleSite
from serverpy.ytdlp.faults import MAX_CHARACTERS, clean, close_responses, translate


def reported(error: Exception) -> DownloadError:
    """Return the DownloadError that `YoutubeDL.report_error` raises for `error`."""
    try:
        raise error
    except Exception:  # noqa: BLE001
        return DownloadError(f"ERROR: {error}", sys.exc_info())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnsupportedError("http://site.example/?token=1"), MediaNotFound),
        (UserNotLive(), MediaNotFound),
        (GeoRestrictedError("Not in your country", countries=["DE"]), GeoRestricted),
        (
            ExtractorError("The uploader has not made this video available in your country", expected=True),
            GeoRestricted,
        ),
        (ExtractorError("This video is DRM protected", expected=True), DrmProtected),
        (
            ExtractorError("Private video. Sign in if you've been granted access to this video", expected=True),
            MediaNotFound,
        ),
        (
            ExtractorError("Video unavailable. This video has been removed by the uploader", expected=True),
            MediaNotFound,
        ),
        (ExtractorError("No video formats found!"), MediaNotFound),
        (ExtractorError("This live event will begin in 3 days.", expected=True), MediaNotFound),
        (ExtractorError("Requested format is not available. Use --list-formats", expected=True), MediaNotFound),
        (
            ExtractorError("Sign in to confirm you’re not a bot. Use --cookies for authentication", expected=True),
            LoginRequired,
        ),
        (ExtractorError("This video is only available for registered users", expected=True), LoginRequired),
        (ExtractorError("Join this channel to get access to members-only content", expected=True), LoginRequired),
        (ExtractorError("Sign in to confirm your age", expected=True), LoginRequired),
        (
            ExtractorError("Unable to extract title; please report this issue on  https://github.com/x"),
            ExtractionFailed,
        ),
        (
            ExtractorError("Unable to download", cause=TransportError(cause=TimeoutError("timed out"))),
            ExtractionTimeout,
        ),
        (ExtractorError("Unable to download", cause=TransportError("Connection refused")), UpstreamFailed),
        (ExtractorError("x", cause=ProxyError("Tunnel connection failed: 403 Forbidden")), TargetForbidden),
        (ExtractorError("x", cause=ProxyError("Tunnel connection failed: 502 Bad Gateway")), UpstreamFailed),
        (ExtractorError("x", cause=TransportError("CONNECT tunnel failed, response 403")), TargetForbidden),
        (ExtractorError("An extractor error has occurred.", cause=KeyError("title")), ExtractionFailed),
        (KeyError("https://site.example/?token=1"), ExtractionFailed),
        (SiteForbidden("No."), SiteForbidden),
        (RecursionError(), ExtractionFailed),
    ],
)
def test_each_yt_dlp_error_is_translated_to_the_expected_error_class(
    error: Exception, kind: type[ServerPYError]
) -> None:
    assert type(translate(error)) is kind
    translated = translate(reported(error))
    assert type(translated) is kind
    assert str(translated)
    assert "token" not in str(translated)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[0;31mERROR:\x1b[0m Video unavailable", "Video unavailable"),
        (
            "Unable to extract x; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling",
            "Unable to extract x",
        ),
        ("Failed at https://user:pw@site.example/watch?v=1&key=2#t", "Failed at https://site.example/watch"),
        ("No route to http://127.0.0.1:8000/x?y", "No route to (address)"),
        ("No route to http://localhost/x or 10.0.0.3:80 or ::1", "No route to (address) or (address) or (address)"),
        ("No route to http://[fd00::1]/x", "No route to (address)"),
        ("Reached 93.184.216.34 at 12:30:45 on 1.2.3", "Reached 93.184.216.34 at 12:30:45 on 1.2.3"),
        ("Login needed. Use --cookies, --username and --password to log in. Sorry.", "Login needed. Sorry."),
        ("Cannot open /home/me/.cache/yt-dlp/x.json", "Cannot open (file)"),
        ("one\ntwo\tthree\x00", "one two three"),
        ("HTTP Error 403: Forbidden (caused by <HTTPError 403: Forbidden>)", "HTTP Error 403: Forbidden"),
    ],
)
def test_error_messages_of_yt_dlp_are_cleaned_of_addresses_and_secrets(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_long_error_messages_of_yt_dlp_are_shortened() -> None:
    assert len(clean("word " * 1000)) <= MAX_CHARACTERS


def request_absent_page(site: SampleSite) -> None:
    """Request a page that does not exist, and raise the HTTP error in the way in which an extractor raises it."""
    with YoutubeDL({"quiet": True}) as ydl:
        try:
            ydl.urlopen(f"{site.http}/page/absent")
        except HTTPError as error:
            raise ExtractorError("Unable to download webpage", cause=error) from None


@pytest.mark.parametrize(
    "error",
    [
        ExtractorError(
            "The extractor is attempting impersonation, but no impersonate target is available", expected=True
        ),
        RequestError('Impersonate target "chrome" is not available. See --list-impersonate-targets'),
    ],
)
def test_the_error_of_an_extraction_that_needs_curl_cffi_names_the_extra_if_it_is_not_installed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(translate(reported(error))) is ExtractionFailed
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "curl_cffi")
    found = translate(reported(error))
    assert type(found) is NotInstalled
    assert str(found) == "Impersonating a browser needs curl-cffi: install serverpy-stream[impersonate]."


def test_the_function_close_responses_closes_the_response_that_an_http_error_holds(site: SampleSite) -> None:
    with pytest.raises(ExtractorError) as caught:
        request_absent_page(site)
    refused = caught.value.cause
    assert isinstance(refused, HTTPError)
    assert not refused.response.closed
    close_responses(caught.value)
    assert refused.response.closed
