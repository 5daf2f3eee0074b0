"""The repository's pages of figures say what `docs/benchmark.json` holds, and what the report says today."""

from __future__ import annotations

import json
from pathlib import Path

from serverpy.bench.report import write as report
from serverpy.bench.report.page import to_markdown
from serverpy.bench.report.plots import draw_all
from serverpy.bench.report.results import parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RAW = json.loads((DOCS / "benchmark.json").read_text(encoding="utf-8"))
ANEW = "serverpy bench --from docs/benchmark.json --docs docs"


def test_the_page_is_the_report_of_its_results() -> None:
    results = parse(RAW)
    plots = draw_all(results)
    page = to_markdown(report.build(results, plots, RAW), "img")
    assert (DOCS / "benchmark.md").read_text(encoding="utf-8") == page, ANEW
    assert {path.stem for path in (DOCS / "img").glob("*.svg")} >= {plot.name for plot in plots}, ANEW


def test_the_run_was_a_whole_one() -> None:
    assert parse(RAW).complete


def test_the_readme_shows_the_headline() -> None:
    assert report.headline_markdown(RAW).strip() in (ROOT / "README.md").read_text(encoding="utf-8")
