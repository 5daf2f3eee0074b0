"""The woven films of the sample site, and the source files of each film."""

from __future__ import annotations

from pathlib import Path

from serverpy.sample import catalogue
from serverpy.sample.catalogue import RENDITIONS
from serverpy.sample.make import ensure_media

NOT_WOVEN = {
    "pair-mixed": "one is in fragments, the other is not",
    "pair-webm": "WebM",
    "pair-muxed": "one of them has both",
    "long-muxed": "one file",
}
FILMS = {name: (ids[0], ids[-1]) for name, ids in catalogue.PAIRS.items() if name not in NOT_WOVEN}
"""Maps each woven film to its best video format and its audio format."""


def sources(film: str) -> tuple[Path, Path]:
    """Return the file that contains the video of `film`, and the file that contains the audio of `film`."""
    media = ensure_media()
    video, audio = (media / RENDITIONS[name].file for name in FILMS[film])
    return video, audio
