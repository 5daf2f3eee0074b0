"""Tests of the merge of segmented video and audio through a real server: the packets are those of both tracks, the
times fit, and FFmpeg decodes the file without a warning."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from serverpy.sample.apart import files_of
from serverpy.sample.site import SampleSite
from tests.media.mp4.films import Packet, packets
from tests.players.tools import said
from tests.server import Server


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
