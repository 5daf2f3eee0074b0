"""Where all bytes come from: one sample site for the whole run, in a process of its own, and what it really serves."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin, urlsplit

from serverpy.bench.measure.children import running
from serverpy.bench.measure.errors import BenchError

Scheme = Literal["http", "https"]

START_SECONDS = 120.0
"""It makes its media at its first start."""
READ_BYTES = 1 << 20
READ_SECONDS = 60.0


@dataclass(frozen=True)
class Origin:
    """The site. `media` names what it serves: a file (`prog.mp4`, `large-180.mp4`) or a playlist (`hls/ts`)."""

    pid: int
    http: str
    https: str
    ca_file: Path
    _measured: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False, compare=False)

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

    def size(self, media: str) -> int:
        """In bytes; of a playlist, its best variant from the first segment to the last."""
        return self._measure(media)[0]

    def sha256(self, media: str) -> str:
        """In hexadecimal, of the bytes which the site itself gives. Read once, then remembered."""
        return self._measure(media)[1]

    def _measure(self, media: str) -> tuple[int, str]:
        if media not in self._measured:
            digest, size = hashlib.sha256(), 0
            for url in _parts(self.url(media)) if is_playlist(media) else [self.url(media)]:
                for piece in _get(url):
                    digest.update(piece)
                    size += len(piece)
            self._measured[media] = size, digest.hexdigest()
        return self._measured[media]


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


def fetch(url: str, *, ca_file: Path | None = None) -> bytes:
    """The whole body. Raises BenchError for any answer but 200, and OSError."""
    return b"".join(_get(url, ca_file))


def _get(url: str, ca_file: Path | None = None) -> Iterator[bytes]:
    # Not urllib: it would ask the proxies of the environment.
    parts = urlsplit(url)
    connection = (
        http.client.HTTPSConnection(
            parts.netloc, timeout=READ_SECONDS, context=ssl.create_default_context(cafile=ca_file)
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=READ_SECONDS)
    )
    with contextlib.closing(connection):
        connection.request("GET", parts._replace(scheme="", netloc="").geturl())
        answer = connection.getresponse()
        if answer.status != 200:
            raise BenchError(f"{parts.netloc}{parts.path} answered {answer.status}.")
        while piece := answer.read(READ_BYTES):
            yield piece


def _parts(master: str) -> Iterator[str]:
    """The init map, if there is one, and the segments of the variant with the highest BANDWIDTH (RFC 8216 §4.3)."""
    variants = re.findall(r"#EXT-X-STREAM-INF:.*?BANDWIDTH=(\d+).*\n(.+)", fetch(master).decode())
    if not variants:
        raise BenchError("The sample site's playlist has no variants.")
    playlist = urljoin(master, max(variants, key=lambda variant: int(variant[0]))[1])
    for uri in re.findall(r'#EXT-X-MAP:.*?URI="([^"]+)"|^([^#\s]+)', fetch(playlist).decode(), re.MULTILINE):
        yield urljoin(playlist, uri[0] or uri[1])
