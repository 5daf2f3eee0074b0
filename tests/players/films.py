"""The woven films of the sample site, and the files that they are woven of."""

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
"""By the film: its best picture and its sound."""


def sources(film: str) -> tuple[Path, Path]:
    """The files of picture and sound."""
    media = ensure_media()
    picture, sound = (media / RENDITIONS[name].file for name in FILMS[film])
    return picture, sound
