"""Helper that returns the files which yt-dlp's command line writes. Tests compare the output of the methods with these
files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from serverpy.sample.site import SampleSite


def write_all(site: SampleSite, pages: Iterable[str], folder: Path) -> Path:
    """Download all formats of the named pages by one run of yt-dlp, as `folder/<page>/<format>`. Returns `folder`."""
    subprocess.run(
        [
            *(sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-cache-dir", "--quiet", "--no-warnings"),
            *("--fixup", "never", "--format", "all", "--output", f"{folder}/%(webpage_url_basename)s/%(format_id)s"),
            *(f"{site.http}/page/{name}" for name in pages),
        ],
        env={**os.environ, "YTDLP_NO_PLUGINS": "1"},
        check=True,
        timeout=280,
    )
    return folder
