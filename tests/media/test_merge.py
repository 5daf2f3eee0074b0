"""Tests of the merge of segmented video and audio through a real server: the packets are those of both tracks, the
times fit, and FFmpeg decodes the file without a warning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serverpy.sample.site import SampleSite


@dataclass(frozen=True)
class Pair:
    """A page of the sample site, and the files whose bytes are its two tracks."""

    page: str
    video: tuple[str, ...]
    audio: tuple[str, ...]

    def __str__(self) -> str:
        return self.page

    def sources(self, site: SampleSite) -> tuple[bytes, bytes]:
        video, audio = (b"".join(site.path(name).read_bytes() for name in names) for names in (self.video, self.audio))
        return video, audio


def hls(site_path: Path, form: str, video: str = "high", audio: str = "en") -> Pair:
    raise NotImplementedError
