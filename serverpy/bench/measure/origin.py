"""Where all bytes come from: one sample site for the whole run, in a process of its own."""

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
"""It makes its media at its first start."""


@dataclass(frozen=True)
class Origin:
    """The site. Media are named as what it serves: a file (`prog.mp4`, `large-180.mp4`) or a playlist (`hls/ts`)."""

    pid: int
    http: str
    https: str
    ca_file: Path

    def base(self, scheme: Scheme) -> str:
        return self.https if scheme == "https" else self.http

    def url(self, media: str, scheme: Scheme = "http") -> str:
        """The media itself: the file, or the master playlist."""
        path = f"{media}/master.m3u8" if is_playlist(media) else f"media/{media}"
        return f"{self.base(scheme)}/{path}"

    def page(self, media: str, scheme: Scheme = "http", fresh: str = "", faults: str = "id=bench") -> str:
        """A page with a player for it. Another `fresh` makes it another page, which no cache knows. A file may
        misbehave as `faults` say (`docs/sample.md`)."""
        # The fault which is none gives every file a page; `docs/sample.md` has the pages of the playlists.
        path = media.replace("/", "-") if is_playlist(media) else f"fault/{faults}/{media}"
        return f"{self.base(scheme)}/page/{path}" + (f"?fresh={fresh}" if fresh else "")


def is_playlist(media: str) -> bool:
    return media.startswith("hls/")


@contextlib.contextmanager
def sample_origin() -> Iterator[Origin]:
    """The site, answering on http and https, for the time of the block. Raises TargetFailed."""
    command = [sys.executable, "-m", "serverpy", "sample", "--port", "0", "--https-port", "0", "--with-parent"]
    with running("The sample site", command, hold_stdin=True) as child:
        pattern = r"(http://127\.0\.0\.1:\d+)/\s+and at (https://127\.0\.0\.1:\d+)/ \(its authority: (.+)\)"
        found = child.said(pattern, START_SECONDS)
        yield Origin(child.pid, found[1], found[2], Path(found[3]))
