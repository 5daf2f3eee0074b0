"""A slim session, which extracts the same media as stock yt-dlp."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serverpy.sample.catalogue import ERRORS, WATCH
from serverpy.sample.pages import PAGES
from serverpy.sample.site import SampleSite

ROOT = Path(__file__).parents[2]
SLOW = {"slow"}


@pytest.mark.timeout(600)  # stock yt-dlp makes a hundred extractions, each with a new instance
def test_a_slim_session_extracts_every_sample_page_as_stock_yt_dlp_does(site: SampleSite) -> None:
    pages = [f"/page/{name}" for name in PAGES if name not in SLOW]
    films = [f"/tube/watch/{name}" for name in (*WATCH, *ERRORS, "crash") if name not in SLOW]
    others = ["/tube/playlist/list-25", "/tube/post/x", "/tube/post/music", "/tube/live/ends-1", "/tube/audio/x"]
    files = ["/media/prog.mp4", "/media/audio.mp3", "/media/photo-1.jpg", "/hls/ts/master.m3u8", "/dash/manifest.mpd"]
    urls = [site.http + path for path in (*pages, *films, *others, *files, "/page/redirect", "/page/absent")]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.ytdlp.compare", *urls], cwd=ROOT, capture_output=True, text=True, timeout=540
    )
    assert answer.returncode == 0, answer.stderr
    compared = json.loads(answer.stdout)
    assert compared["differences"] == {}
    assert compared["found"] > 20
