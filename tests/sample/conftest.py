from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample import PLUGIN_PATH, SampleSite


@pytest.fixture(scope="session")
def site() -> Iterator[SampleSite]:
    with SampleSite() as running:
        yield running


class YtDlp:
    """Unmodified yt-dlp in a child process, which runs `ytdlp_child.py`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def ask(self, url: str, **request: Any) -> dict[str, Any]:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps({"url": url, **request}) + "\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer

    def info(self, url: str, **request: Any) -> dict[str, Any]:
        answer = self.ask(url, **request)
        assert "info" in answer, answer
        info: dict[str, Any] = answer["info"]
        return info

    def error(self, url: str, **request: Any) -> dict[str, Any]:
        answer = self.ask(url, **request)
        assert "error" in answer, answer
        return answer

    def get(self, url: str, format: str, folder: Path) -> bytes:
        """Download a page with yt-dlp's own downloader. Returns the bytes of the only file that yt-dlp writes."""
        params = {"outtmpl": str(folder / "media.%(ext)s"), "format": format, "nopart": True, "retries": 10}
        self.info(url, download=True, params=params)
        (file,) = folder.iterdir()
        return file.read_bytes()


@pytest.fixture(scope="session")
def ytdlp() -> Iterator[YtDlp]:
    script = Path(__file__).with_name("ytdlp_child.py")
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN_PATH)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        yield YtDlp(child)
        assert child.stdin
        child.stdin.close()
        child.wait(timeout=60)
