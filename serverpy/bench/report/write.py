"""The writer of the bench report: it makes Markdown, one HTML page, and the charts from `results.json`. `serverpy
bench` calls `write` at the end of a run, whether the run is complete or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serverpy.bench.report.charts import draw_all
from serverpy.bench.report.compare import AGAINST, compared
from serverpy.bench.report.content import build
from serverpy.bench.report.page import to_html, to_markdown
from serverpy.bench.report.results import load, parse


def write(
    results_path: Path, out: Path, docs: Path | None = None, more: Sequence[Path] = (), against: Path | None = None
) -> Path:
    """Write `report.md`, `report.html` and `img/*.svg` into `out`. If `docs` (the repository's directory) is given,
    also write `benchmark.md`, `benchmark.json` and `img/*.svg` into it. Replace each file atomically. Returns the path
    of the HTML page.

    The report takes the scenarios that are missing or failed in this run from the runs in `more`, and shows the figures
    of the run `against` beside those of this run. Raises OSError if a file cannot be read or written, and ValueError if
    a file does not hold results.
    """
    raw = load(results_path)
    for path in more:
        raw = together(raw, load(path))
    if against is not None:
        raw = {**raw, AGAINST: compared(load(against), raw)}
    results = parse(raw)
    charts = draw_all(results)
    page = build(results, charts, raw)
    files = {out / "report.md": to_markdown(page, "img"), out / "report.html": to_html(page)}
    if docs is not None:
        files[docs / "benchmark.md"] = to_markdown(page, "img")
        files[docs / "benchmark.json"] = json.dumps(raw, indent=1, allow_nan=False) + "\n"
    for folder in (out, docs or out):
        files |= {folder / "img" / f"{chart.name}.svg": chart.svg for chart in charts}
    for path, text in files.items():
        _put(path, text)
    return out / "report.html"


def together(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the results `first`; scenarios that are missing or failed in them are taken from `other`. The `meta` of
    the returned results names the added scenarios, and the command and start time of the run `other`."""
    sound = {scenario["name"] for scenario in first["scenarios"] if scenario["status"] in ("done", "skipped")}
    added = [scenario for scenario in other["scenarios"] if scenario["name"] not in sound]
    names = [scenario["name"] for scenario in added]
    kept = [scenario for scenario in first["scenarios"] if scenario["name"] not in names]
    said = {name: other["meta"].get(name) for name in ("command", "started", "complete")}
    meta = {**first["meta"], "added": [*first["meta"].get("added", ()), {"scenarios": names, **said}]}
    return {**first, "meta": meta, "scenarios": [*kept, *added]}


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
