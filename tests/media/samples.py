"""Samples for the table in docs/media.md: pages of the sample site, and the files that yt-dlp writes for these
pages."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serverpy.sample import PLUGIN_PATH
from serverpy.sample.hls import SHAPES, VARIANTS, parts_of
from serverpy.sample.site import SampleSite
from tests.media.merging import DASH as MERGED_DASH
from tests.media.merging import HLS as MERGED_HLS
from tests.media.merging import RESTARTING
from tests.players.films import FILMS

SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A page of the sample site. `title` is the name of the page in docs/media.md."""

    title: str
    page: str

    def __str__(self) -> str:
        return self.title


def _page(name: str) -> Sample:
    return Sample(name, f"/page/{name}")


def _film(name: str) -> Sample:
    return Sample(name, f"/tube/watch/{name}")


FILES = (*map(_page, ("prog", "moov-last", "webm", "mp3", "m4a")), *map(_film, ("headers", "chunked", "post")))
HLS = tuple(_page(f"hls-{kind}") for kind in ("ts", "fmp4", "aes", "audio", *SHAPES))
DASH = tuple(map(_page, ("dash", "dash-list", "dash-time", "dash-on-demand", "dash-periods", "dash-bases")))
MERGED = tuple(map(_page, (*MERGED_HLS, *MERGED_DASH, *RESTARTING)))
"""Pages with separate video and audio in segments of fragmented MP4. The server merges the two tracks if a request has
no `format`."""
LIVE = (Sample("live", "/tube/live/speed=4,target=1,window=12,begin=4,ends=12"),)
"""Live broadcasts whose segments all stay in the playlist, so that a slow machine misses none."""
PAIRS = tuple(map(_film, FILMS))

REFUSED = {"hls-discontinuity-fmp4": "discontinuity-fmp4"}
"""The HLS samples that yt-dlp refuses to download, with the name that each has on the sample site."""

Written = dict[str, dict[str, bytes]]
"""Maps each page to its formats, and each format to its bytes."""


def written(site: SampleSite, folder: Path, samples: tuple[Sample, ...]) -> Written:
    """Return the bytes that yt-dlp's command line writes for each format of the samples. Leaves out the formats that
    yt-dlp refuses to download."""
    output = f"{folder}/%(webpage_url_basename)s/%(format_id)s"
    subprocess.run(
        [
            *(sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-cache-dir", "--quiet", "--no-warnings"),
            *("--fixup", "never", "--ignore-errors", "--no-part", "--format", "all", "--output", output),
            *(f"{site.http}{sample.page}" for sample in samples),
        ],
        env={**os.environ, "PYTHONPATH": str(PLUGIN_PATH)},
        stderr=subprocess.DEVNULL,
        check=False,  # yt-dlp exits with an error, because it refuses some samples
        timeout=SECONDS,
    )
    return {
        page.name: {path.name: path.read_bytes() for path in page.iterdir() if path.stat().st_size}
        for page in folder.iterdir()
    }


def unwritten(site: SampleSite, sample: Sample) -> list[bytes]:
    """Return the bytes of each variant of a sample that yt-dlp refuses to download. Raises KeyError for any other
    sample."""
    return [
        b"".join(site.path(f"hls/{part}").read_bytes() for part in parts_of(REFUSED[sample.title], variant))
        for variant in VARIANTS
    ]
