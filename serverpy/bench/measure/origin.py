"""The origin of all bytes: one sample site for the whole run, in a process of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serverpy.bench.measure.children import running

Scheme = Literal["http", "https"]

START_SECONDS = 120.0
"""Seconds that the site may take to start. At its first start, the site generates its media."""


@dataclass(frozen=True)
class Origin:
    """The running site. The name of a medium is that of its file (`prog.mp4`, `large-180.mp4`) or of its playlist
    (`hls/ts`) on the site."""

    pid: int
    http: str
    https: str
    ca_file: Path

    def base(self, scheme: Scheme) -> str:
        return self.https if scheme == "https" else self.http

    def url(self, media: str, scheme: Scheme = "http") -> str:
        """Return the address of the media file or the master playlist."""
        path = f"{media}/master.m3u8" if is_playlist(media) else f"media/{media}"
        return f"{self.base(scheme)}/{path}"

    def page(self, media: str, scheme: Scheme = "http", fresh: str = "", faults: str = "id=bench") -> str:
        """Return the address of a page with a player for the media. A different `fresh` makes a different page, which
        no cache knows. A file may misbehave as `faults` says (`docs/sample.md`)."""
        # The default fault has no effect: it only gives every file a page. Playlists have pages anyway
        # (`docs/sample.md`).
        path = media.replace("/", "-") if is_playlist(media) else f"fault/{faults}/{media}"
        return f"{self.base(scheme)}/page/{path}" + (f"?fresh={fresh}" if fresh else "")


def is_playlist(media: str) -> bool:
    return media.startswith("hls/")


@contextlib.contextmanager
def sample_origin() -> Iterator[Origin]:
    """Run the site on http and https for the duration of the block. Raises TargetFailed if it does not start."""
    command = [sys.executable, "-m", "serverpy", "sample", "--port", "0", "--https-port", "0", "--with-parent"]
    with running("The sample site", command, hold_stdin=True) as child:
        pattern = r"(http://127\.0\.0\.1:\d+)/\s+and at (https://127\.0\.0\.1:\d+)/ \(its authority: (.+)\)"
        found = child.said(pattern, START_SECONDS)
        yield Origin(child.pid, found[1], found[2], Path(found[3]))
