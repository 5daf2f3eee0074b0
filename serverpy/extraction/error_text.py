"""What yt-dlp says when it cannot go on, and which of our errors it means.

Two read it: `ytdlp/faults.py`, which has the exceptions and asks only for what an extractor or a library has put into
words, and `streaming/child/errors.py`, which has nothing but a child's words. So nothing of yt-dlp is loaded here.
"""

from __future__ import annotations

import re

from serverpy.errors import (
    Busy,
    DrmProtected,
    GeoRestricted,
    LoginRequired,
    MediaNotFound,
    ServerPYError,
    TargetForbidden,
    UpstreamFailed,
    UpstreamTimeout,
)

NO_MEDIA = "No media was found on this page."
NO_ANSWER = "The site did not answer in time."

_REFUSALS: dict[str, tuple[type[ServerPYError], str]] = {
    "target_forbidden": (TargetForbidden, "The page leads to an address that may not be reached."),
    "upstream_failed": (UpstreamFailed, "The site could not be reached."),
    "busy": (Busy, "The proxy has no free connection."),
    "upstream_timeout": (UpstreamTimeout, NO_ANSWER),
}
_TUNNEL_CODES = {"403": "target_forbidden", "502": "upstream_failed", "503": "busy", "504": "upstream_timeout"}
# urllib3: "Tunnel connection failed: 403 Forbidden"; libcurl: "CONNECT tunnel failed, response 403".
_TUNNEL = re.compile(r"tunnel (?:connection )?failed[:,]? (?:response )?(\d{3})", re.IGNORECASE)

# Read in this order: the first that fits decides.
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

_NO_WORDS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]*|\bhost='[^']*'", re.IGNORECASE)
"""Addresses: what they are made of says nothing."""
_REASON = re.compile(r"(HTTP ?Error \d{3}): [^()<>\[\];.,]*", re.IGNORECASE)
"""A status's phrase is not the site's word on the media: `503: Service Unavailable` is no "unavailable"."""


def kind_of(text: str) -> type[ServerPYError] | None:
    """The error that a sentence of an extractor or a site means, if it is one that we know."""
    text = _REASON.sub(r"\1", _NO_WORDS.sub("", text))
    return next((kind for kind, pattern in _WORDS if pattern.search(text)), None)


def refusal(code: str | None) -> ServerPYError | None:
    """What the filtering proxy means by `code`; None for anything else."""
    if code not in _REFUSALS:
        return None
    kind, sentence = _REFUSALS[code]
    return kind(sentence)


def refused_tunnel(text: str) -> ServerPYError | None:
    """What the filtering proxy answered to CONNECT, of which the HTTP libraries tell the status in their text alone."""
    match = _TUNNEL.search(text)
    return refusal(_TUNNEL_CODES.get(match[1])) if match else None
