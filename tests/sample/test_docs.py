from __future__ import annotations

import re
from pathlib import Path

from serverpy.sample.catalogue import ERRORS, WATCH
from serverpy.sample.faults import FAULTS
from serverpy.sample.hls import SHAPES
from serverpy.sample.hostile import HOSTILE
from serverpy.sample.live import SHOW_PARTS
from serverpy.sample.pages import PAGES

TEXT = (Path(__file__).parents[2] / "docs" / "sample.md").read_text(encoding="utf-8")


def test_docs_sample_md_names_every_fault_and_page_and_every_video_of_sampletube() -> None:
    words = set(re.findall(r"[\w-]+", TEXT))
    assert set(FAULTS) | set(PAGES) | set(WATCH) | ERRORS | set(SHAPES) | set(SHOW_PARTS) <= words
    assert {name.partition(".")[0] for name in HOSTILE} <= words
