"""Test that the list of extractors that can find embeds agrees with yt-dlp's own classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yt_dlp

from serverpy.ytdlp.session.embeds import embed_capable

# The code runs in its own process, because it imports every extractor of yt-dlp.
EXACT = """
import json
from yt_dlp.extractor import gen_extractor_classes
from yt_dlp.extractor.common import InfoExtractor

def overrides(cls, name):
    return next(base for base in cls.__mro__ if name in base.__dict__) is not InfoExtractor

def capable(cls):
    names = ("_extract_embed_urls", "_extract_from_webpage", "extract_from_webpage")
    return bool(cls._EMBED_REGEX) or any(overrides(cls, name) for name in names)

classes = {ie.ie_key(): getattr(ie, "real_class", ie) for ie in gen_extractor_classes()}
print(json.dumps([key for key, cls in classes.items() if capable(cls)]))
"""


def test_the_list_of_embed_extractors_contains_every_extractor_that_can_find_embeds() -> None:
    answer = subprocess.run([sys.executable, "-c", EXACT], capture_output=True, text=True, timeout=240, check=True)
    exact = set(json.loads(answer.stdout))
    found = embed_capable(Path(yt_dlp.extractor.__file__).parent)
    assert len(exact) > 100
    assert exact <= found
    assert len(found) < len(exact) + 20


def test_the_list_of_embed_extractors_contains_subclasses_of_extractors_that_can_find_embeds(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "class BaseIE(InfoExtractor):\n    _EMBED_REGEX = [r'x']\n\nclass AlsoIE(HeirIE):\n    x = 1\n"
    )
    (tmp_path / "two.py").write_text(
        "class HeirIE(one.BaseIE):\n    x = 1\n\nclass OtherIE(InfoExtractor):\n    x = 1\n"
    )
    assert embed_capable(tmp_path) == {"Base", "Heir", "Also"}
