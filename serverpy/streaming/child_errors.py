"""What the yt-dlp command line says when it gives up, as our own errors. Its words are never shown: they may hold
addresses, queries and paths."""

from __future__ import annotations

import re

from serverpy.errors import (
    Busy,
    DrmProtected,
    ExtractionFailed,
    ExtractionTimeout,
    FormatNotFound,
    GeoRestricted,
    InvalidParameter,
    LoginRequired,
    MediaNotFound,
    ServerPYError,
    TargetForbidden,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)

# Read in this order: the first that fits decides.
_TABLE: tuple[tuple[str, type[ServerPYError], str], ...] = (
    (
        r"tunnel (?:connection )?failed[:,]? (?:response )?403|HTTP Error 403: Forbidden Target",
        TargetForbidden,
        "The page leads to an address that may not be reached.",
    ),
    (r"tunnel (?:connection )?failed[:,]? (?:response )?503", Busy, "The proxy has no free connection."),
    (
        r"tunnel (?:connection )?failed[:,]? (?:response )?504|timed? ?out",
        UpstreamTimeout,
        "The site did not answer in time.",
    ),
    (r"requested format is not available", FormatNotFound, "No format of the page fits the selector."),
    (r"unsupported url|no video formats found|no media found", MediaNotFound, "No media was found on this page."),
    (r"\bDRM\b", DrmProtected, "The media is encrypted with DRM."),
    (r"ffmpeg|requested merging", UnsupportedConversion, "This media cannot be streamed without ffmpeg."),
    (
        r"geo.?restrict|not (?:be )?available (?:in|from) your|your (?:country|location|region)",
        GeoRestricted,
        "The site refuses this server's country.",
    ),
    (
        r"log(?:ged)? ?in|sign in|registered users|cookies|account|password|subscri|not a bot|captcha|HTTP Error 401",
        LoginRequired,
        "The site wants an account.",
    ),
    (r"HTTP Error (?:404|410)", MediaNotFound, "The site has no such page or media."),
    (r"HTTP Error 451", GeoRestricted, "The site may not show this here."),
    (r"HTTP Error \d+|bytes read|more expected|connection|certificate|SSL", UpstreamFailed, "The site failed."),
    (r"private|removed|unavailable|does not exist|deleted|not available", MediaNotFound, "The media is not available."),
)


def page_error(messages: str) -> ServerPYError:
    """Of a child that ended before it had chosen what to download."""
    error = translate(messages, ExtractionFailed("yt-dlp could not read the page."))
    return ExtractionTimeout(error.detail) if isinstance(error, UpstreamTimeout) else error


def media_error(messages: str) -> ServerPYError:
    """Of a child that ended while it downloaded: the page was there, so what is missing or closed is the media."""
    error = translate(messages, UpstreamFailed("yt-dlp could not download the media."))
    if isinstance(error, MediaNotFound | LoginRequired | GeoRestricted):
        return UpstreamFailed("The media server refuses.")
    return error


def translate(messages: str, otherwise: ServerPYError) -> ServerPYError:
    """The error for the child's last `ERROR:` line (or its last line at all); `otherwise` for one that is not known."""
    if "Invalid format specification" in messages:  # a traceback, not an ERROR line
        return InvalidParameter("The format selector does not parse.")
    # Not `splitlines`: yt-dlp puts a carriage return into the line of a failed download.
    lines = [line for line in messages.split("\n") if line.strip()]
    errors = [line for line in lines if "ERROR:" in line]
    last = (errors or lines or [""])[-1]
    for pattern, kind, sentence in _TABLE:
        if re.search(pattern, last, re.IGNORECASE):
            return kind(sentence)
    return otherwise
