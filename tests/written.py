"""Helpers that write reference files with yt-dlp's command line, and apply to them the changes that `relay` makes.
Tests compare the output of the streaming methods with these files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from serverpy.media.mp4.durations import with_duration
from serverpy.sample.boxes import boxes
from serverpy.sample.encode import SECONDS
from serverpy.sample.site import SampleSite


def write_all(site: SampleSite, pages: Iterable[str], folder: Path) -> Path:
    """Download all formats of the named pages by one run of yt-dlp, to `folder/<page>/<format>`. Returns `folder`."""
    subprocess.run(
        [
            *(sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-cache-dir", "--quiet", "--no-warnings"),
            *("--fixup", "never", "--format", "all", "--output", f"{folder}/%(webpage_url_basename)s/%(format_id)s"),
            *(f"{site.http}/page/{name}" for name in pages),
        ],
        env={**os.environ, "YTDLP_NO_PLUGINS": "1"},
        check=True,
        timeout=280,
    )
    return folder


def as_relayed(film: bytes, *, has_length: bool, seconds: float = SECONDS) -> bytes:
    """Return the bytes that `relay` sends for the segments of `film`, which last `seconds` in total. Every moov box of
    these bytes states this duration. If `has_length` is false, each moov box also contains an mehd box, and a free box
    replaces each segment index box (sidx)."""
    if film[4:8] != b"ftyp":
        return film
    parts = []
    for box in boxes(film):
        part = film[box.start - 8 : box.stop]
        if box.kind == b"moov":
            part = with_duration(part, seconds, may_grow=not has_length)
        elif box.kind == b"sidx" and not has_length:
            part = part[:4] + b"free" + part[8:]
        parts.append(part)
    return b"".join(parts)
