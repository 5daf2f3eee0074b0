"""The translation of the messages of a failed yt-dlp child process into ServerPY's errors. The client never sees the
messages of yt-dlp, because they may contain URLs, queries and paths."""

from __future__ import annotations

import re

from serverpy.errors import (
    DrmProtected,
    ExtractionFailed,
    ExtractionTimeout,
    FormatNotFound,
    GeoRestricted,
    InvalidParameter,
    LoginRequired,
    MediaNotFound,
    NotMedia,
    ServerPYError,
    SiteForbidden,
    TargetForbidden,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.error_text import (
    FORBIDDEN_PAGE,
    NO_ANSWER,
    NO_MEDIA,
    kind_of,
    no_impersonation,
    refused_tunnel,
)
from serverpy.net.heads import FORBIDDEN_REASON

# The first pattern that matches decides the error. The patterns are tried in this order: `_FIRST`, the patterns for
# messages of extractors and sites (`_by_words`), `_LAST`.
_FIRST: tuple[tuple[str, type[ServerPYError], str], ...] = (
    (f"HTTP Error 403: {FORBIDDEN_REASON}", TargetForbidden, FORBIDDEN_PAGE),
    (r"timed? ?out", UpstreamTimeout, NO_ANSWER),
    (r"requested format is not available", FormatNotFound, "No format of the page matches the format selector."),
    (r"unsupported url|no video formats found|no media found", MediaNotFound, NO_MEDIA),
    (r"ffmpeg|requested merging", UnsupportedConversion, "This media cannot be streamed without ffmpeg."),
    (r"HTTP Error (?:404|410)", MediaNotFound, "The site has no such page or media."),
    (r"HTTP Error 451", GeoRestricted, "The media is unavailable for legal reasons (HTTP 451)."),
)
_SENTENCES: dict[type[ServerPYError], str] = {
    DrmProtected: "The media is encrypted with DRM.",
    GeoRestricted: "The site refuses this server's country.",
    LoginRequired: "The site requires a login.",
    MediaNotFound: "The media is not available.",
}
_LAST: tuple[tuple[str, type[ServerPYError], str], ...] = (
    (
        r"HTTP Error \d+|bytes read|more expected|connection|certificate|SSL",
        UpstreamFailed,
        "The site answered with an error, or the connection failed.",
    ),
)
_OURS = re.compile(r"serverpy: (\w+): (.+)")
"""Pattern of the last line that `ytdlp/commandline.py` writes if ServerPY's own code in the child has raised an error:
the code and the message of the error."""
_BY_CODE: dict[str, type[ServerPYError]] = {
    kind.code: kind
    for kind in (
        DrmProtected,
        InvalidParameter,
        NotMedia,
        SiteForbidden,
        TargetForbidden,
        TooLarge,
        UnsupportedConversion,
        UpstreamFailed,
        UpstreamTimeout,
    )
}
_EXTRACTOR = re.compile(r"ERROR: \[[^\]]*\]")
"""Pattern of the name of an extractor at the beginning of an error message. The name is removed before `kind_of`
applies its patterns, because a name such as `nrkno:subscription` may contain words that say nothing about the error."""


def page_error(messages: str) -> ServerPYError:
    """Return the error for the `messages` of a child that ended before it had chosen a format."""
    error = translate(messages, ExtractionFailed("Yt-dlp could not read the page."))
    return ExtractionTimeout(error.detail) if isinstance(error, UpstreamTimeout) else error


def media_error(messages: str) -> ServerPYError:
    """Return the error for the `messages` of a child that ended while it downloaded. The child has already read the
    page, so an HTTP status such as 403 or 404 comes from the media server."""
    error = translate(messages, UpstreamFailed("Yt-dlp could not download the media."))
    if isinstance(error, MediaNotFound | LoginRequired | GeoRestricted):
        return UpstreamFailed("The media server refused the request.")
    return error


def translate(messages: str, otherwise: ServerPYError) -> ServerPYError:
    """Return the error for `messages`. If ServerPY's code in the child has raised an error, returns that error.
    Otherwise returns the error for the last `ERROR:` line or, if no line has `ERROR:`, for the last line. Returns
    `otherwise` if no pattern matches that line."""
    # Only "\n" ends a line. `str.splitlines` would also split at the carriage return that yt-dlp writes into the error
    # line of a failed download.
    lines = [line for line in messages.split("\n") if line.strip()]
    if ours := _of_serverpy((lines or [""])[-1]):
        return ours
    if "Invalid format specification" in messages:  # yt-dlp prints this error as a traceback, not as an ERROR line
        return InvalidParameter("The format selector is invalid.")
    if "MemoryError" in messages:
        return TooLarge("The page needs more memory than the server allows.")
    errors = [line for line in lines if "ERROR:" in line]
    last = (errors or lines or [""])[-1]
    return (
        refused_tunnel(last)
        or no_impersonation(last)
        or _by_table(_FIRST, last)
        or _by_words(last)
        or _by_table(_LAST, last)
        or otherwise
    )


def _of_serverpy(line: str) -> ServerPYError | None:
    found = _OURS.fullmatch(line)
    kind = found and _BY_CODE.get(found[1])
    return kind(found[2]) if found and kind else None


def _by_table(table: tuple[tuple[str, type[ServerPYError], str], ...], line: str) -> ServerPYError | None:
    for pattern, kind, sentence in table:
        if re.search(pattern, line, re.IGNORECASE):
            return kind(sentence)
    return None


def _by_words(line: str) -> ServerPYError | None:
    kind = kind_of(_EXTRACTOR.sub("", line))
    return kind(_SENTENCES[kind]) if kind else None
