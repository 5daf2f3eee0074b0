"""The sample media site on loopback: real media, pages around them, and faults on request."""

from __future__ import annotations

from pathlib import Path

from serverpy.sample.content import large_sha256
from serverpy.sample.site import SampleSite, main, run

PLUGIN_PATH = Path(__file__).parent / "plugins"
"""The folder that must be added to PYTHONPATH so that yt-dlp finds the extractor `SampleTube`."""

__all__ = ["PLUGIN_PATH", "SampleSite", "large_sha256", "main", "run"]
