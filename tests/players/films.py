"""The merged MP4s of the sample site, and the source files of each MP4."""

from __future__ import annotations

from pathlib import Path

from serverpy.sample import catalogue
from serverpy.sample.catalogue import RENDITIONS
from serverpy.sample.make import ensure_media

NOT_WOVEN = {
    "pair-webm": "WebM",
    "pair-muxed": "one of them has both",
    "long-muxed": "one file",
}
FILMS = {name: (ids[0], ids[-1]) for name, ids in catalogue.PAIRS.items() if name not in NOT_WOVEN}
"""Maps the name of each merged MP4 to its best video format and its audio format."""


def sources(film: str) -> tuple[Path, Path]:
    """Return the source files of the merged MP4 `film`: the file with the video, and the file with the audio."""
    media = ensure_media()
    video, audio = (media / RENDITIONS[name].file for name in FILMS[film])
    return video, audio
