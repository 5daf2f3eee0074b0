"""Two plain MP4s become one: what a demuxer reads of it is what it reads of each."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.plain import lay_out_plain
from serverpy.sample.make import ensure_media
from tests.media.mp4.films import located, packets

PAIRS = {
    "moov first": ("video-only.mp4", "audio-only.mp4"),
    "one of two tracks": ("prog.mp4", "audio.m4a"),
    "moov last, both from one file": ("moov-last.mp4", "moov-last.mp4"),
}


@pytest.fixture(scope="module")
def media() -> Path:
    return ensure_media()


def laid_out(video: bytes, audio: bytes) -> Layout:
    return lay_out_plain(located(video), located(audio))


def read(layout: Layout, video: bytes, audio: bytes, first: int = 0, end: int | None = None) -> bytes:
    """The bytes of a range, read from the sources as the layout says."""
    sources = video, audio, layout.header
    return b"".join(
        sources[piece.source][piece.offset : piece.offset + piece.length]
        for piece in layout.read(first, layout.total if end is None else end)
    )


@pytest.mark.parametrize(("picture", "sound"), PAIRS.values(), ids=PAIRS)
def test_packets_are_those_of_the_sources(media: Path, picture: str, sound: str) -> None:
    video, audio = (media / picture).read_bytes(), (media / sound).read_bytes()
    layout = laid_out(video, audio)
    film = read(layout, video, audio)
    assert len(film) == layout.total
    assert packets(film, "video") == packets(video, "video")
    assert packets(film, "audio") == packets(audio, "audio")


def test_every_range_is_that_of_the_whole(media: Path) -> None:
    video, audio = (media / "video-only.mp4").read_bytes(), (media / "audio.m4a").read_bytes()
    layout = laid_out(video, audio)
    film = read(layout, video, audio)
    dice = random.Random(1)
    for _ in range(200):
        first, end = sorted(dice.sample(range(len(film) + 1), 2))
        assert read(layout, video, audio, first, end) == film[first:end]
