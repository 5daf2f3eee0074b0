"""Mapping of the error texts of yt-dlp and of the filtering proxy to this server's errors. `ytdlp/faults.py` and
`ytdlp/download/upstream.py` get exceptions from yt-dlp, and use this module only if the text of an exception says more
than its class. `streaming/child/errors.py` gets only the messages that a child process prints, so this module imports
nothing from yt-dlp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from serverpy.errors import (
    Busy,
    DrmProtected,
    GeoRestricted,
    LoginRequired,
    MediaNotFound,
    NotInstalled,
    ServerPYError,
    TargetForbidden,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extras import IMPERSONATE

NO_MEDIA = "No media was found on this page."
NO_ANSWER = "The site did not answer in time."
FORBIDDEN_PAGE = (
    "The page or its URL has an address outside the public internet, or a refused port: ALLOW_NETWORKS may allow it."
)
IMPERSONATING = "Impersonating a browser"

Sentences = Mapping[type[ServerPYError], str]

OF_A_PAGE: Sentences = {
    TargetForbidden: FORBIDDEN_PAGE,
    UpstreamFailed: "The site could not be reached.",
    Busy: "The filtering proxy of this server has no free connection. Try again later.",
    UpstreamTimeout: NO_ANSWER,
}
OF_MEDIA: Sentences = {
    TargetForbidden: "The media's address may not be reached from here.",
    UpstreamFailed: "The media server could not be reached.",
    Busy: "Too many connections are open.",
    UpstreamTimeout: "The media server could not be reached in time.",
}
"""The error texts for a refusal by the filtering proxy: `OF_A_PAGE` if it refused the address of a page, `OF_MEDIA` if
it refused an address of media."""

# `net/egress.py` states the error code in a header of its response to CONNECT, and by the status of that response.
_BY_CODE = {kind.code: kind for kind in (TargetForbidden, UpstreamFailed, Busy, UpstreamTimeout)}
_BY_STATUS = {"403": TargetForbidden, "502": UpstreamFailed, "503": Busy, "504": UpstreamTimeout}
# urllib3: "Tunnel connection failed: 403 Forbidden"; libcurl: "CONNECT tunnel failed, response 403".
_TUNNEL = re.compile(r"tunnel (?:connection )?failed[:,]? (?:response )?(\d{3})", re.IGNORECASE)

# The order of the patterns matters: the first pattern that matches decides the error.
_WORDS: tuple[tuple[type[ServerPYError], re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (DrmProtected, r"\bDRM\b"),
        (
            GeoRestricted,
            r"geo[- ]?(?:restrict|block)"
            r"|(?:available|accessible|viewed?|blocked|allowed)\b.{0,60}"
            r"\byour (?:country|region|location|area|territory)"
            r"|your (?:country|region|location|area|territory)\b.{0,60}\b(?:not|block|restrict|unavailable)",
        ),
        (
            MediaNotFound,
            r"\bprivate\b|unavailable|no longer (?:available|exists?)"
            r"|(?:was|been|is|were) (?:removed|deleted|taken down)"
            r"|(?:removed|deleted) (?:by|from|for)|does(?: not|n['’]t) exist|not (?:be )?found\b|terminated"
            r"|HTTP Error (?:404|410)\b|\bno (?:video|audio|media|playable|downloadable)?\s?"
            r"(?:formats?|videos?|streams?|media|entries|embeds?)\b|requested format is not available"
            r"|not (?:currently|yet) (?:live|available|started)|will begin in|premieres in|is offline",
        ),
        (
            LoginRequired,
            r"\blog(?:ged)?[- ]?in\b|sign[- ]?(?:ed)?[- ]?in\b|registered users"
            r"|account (?:is )?(?:required|needed|credentials)|(?:needs?|requires?) an account"
            r"|authenticat|members?[- ]only|only (?:for|to|available (?:for|to)) (?:members|subscribers|premium)"
            r"|subscription|subscribers?\b|premium|purchas|payment|paid\b|not a bot|captcha|age[- ]restrict"
            r"|confirm your age|\bpassword\b|use --(?:cookies|username)|HTTP Error 401\b",
        ),
        (MediaNotFound, r"not available"),
    )
)

_ADDRESSES = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]*|\bhost='[^']*'", re.IGNORECASE)
"""Matches an address. `kind_of` removes addresses before it applies the other patterns, because the words in an address
say nothing about the failure."""
_REASON = re.compile(r"(HTTP ?Error \d{3}): [^()<>\[\];.,]*", re.IGNORECASE)
"""Matches an HTTP status and its reason phrase. `kind_of` removes the reason phrase before it applies the other
patterns: `503: Service Unavailable` does not mean that the media is unavailable."""


def kind_of(text: str) -> type[ServerPYError] | None:
    """Return the error class for the message of an extractor or a site. Returns None if no pattern matches."""
    text = _REASON.sub(r"\1", _ADDRESSES.sub("", text))
    return next((kind for kind, pattern in _WORDS if pattern.search(text)), None)


def no_impersonation(text: str) -> NotInstalled | None:
    """Return the error if `text` reports that yt-dlp cannot impersonate a browser because curl-cffi is missing. Returns
    None for any other text, or if curl-cffi is installed."""
    if IMPERSONATE.missing and "impersonate target" in text.lower():
        return IMPERSONATE.absence(IMPERSONATING)
    return None


def refusal(code: str | None, sentences: Sentences = OF_A_PAGE) -> ServerPYError | None:
    """Return the error for `code`, an error code in a response of the filtering proxy. Returns None for any other
    code."""
    kind = _BY_CODE.get(code or "")
    return kind(sentences[kind]) if kind else None


def refused_tunnel(text: str, sentences: Sentences = OF_A_PAGE) -> ServerPYError | None:
    """Return the error for the filtering proxy's response to CONNECT, whose status HTTP libraries report only in the
    text of their errors. Returns None if `text` reports no such response."""
    match = _TUNNEL.search(text)
    kind = _BY_STATUS.get(match[1]) if match else None
    return kind(sentences[kind]) if kind else None
