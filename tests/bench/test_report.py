"""Tests of the benchmark report: its verdicts follow from the values, it shows each failure as a failure, and the
repository's pages match the raw results."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from serverpy.bench.measure.scenarios import SCENARIOS
from serverpy.bench.report.charts import PARTS, draw_all
from serverpy.bench.report.claims import SECTIONS, Claim, Judged, Verdict, judge, verdict
from serverpy.bench.report.content import build
from serverpy.bench.report.headline import TARGETS, headline
from serverpy.bench.report.limits import LIMITS, Reached, measure
from serverpy.bench.report.limits import verdict as limit_verdict
from serverpy.bench.report.page import Bullets, Page, Paragraph, Table, table_markdown, to_html, to_markdown
from serverpy.bench.report.ranges import parse_range
from serverpy.bench.report.results import Figure, NotMeasured, parse
from serverpy.bench.report.selectors import find
from serverpy.bench.report.styles import STYLES
from serverpy.bench.report.units import Unit, digits, figure, whole_size
from serverpy.bench.report.write import together, write

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ANEW = "serverpy bench --from docs/benchmark.json --docs docs"
RAW: dict[str, Any] = json.loads((DOCS / "benchmark.json").read_text(encoding="utf-8"))
CLAIMS = [claim for section in SECTIONS for claim in section.claims]
MB = 1_000_000
LIMIT = {limit.what: limit for limit in LIMITS}


def run(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return results of a run that consists of the scenarios in `rows`, all of which are done."""
    names = {name: name.replace("_", "-") for name in rows}
    return {"meta": {}, "scenarios": [{"name": names[n], "status": "done", "rows": found} for n, found in rows.items()]}


def changed(name: str, **change: Any) -> dict[str, Any]:
    """Return the repository's benchmark results after updating the scenario `name` with `change`, or without this
    scenario if `change` is empty."""
    raw = copy.deepcopy(RAW)
    if not change:
        raw["scenarios"] = [each for each in raw["scenarios"] if each["name"] != name]
    for each in raw["scenarios"]:
        if each["name"] == name:
            each |= change
    return raw


def crowd(target: str, clients: int, **more: Any) -> dict[str, Any]:
    row = {"target": target, "clients": clients, "scheme": "http", "base_pss": 90 * MB, "each_pss": 2 * MB}
    return {**row, "peak_pss": (90 + 2 * clients) * MB, "complete": clients, "failed": 0, "refused": 0, **more}


def claim(what: str, target: str = "") -> Claim:
    (found,) = [each for each in CLAIMS if (each.what, each.target) == (what, target)]
    return found


def judged(raw: dict[str, Any], what: str, target: str = "") -> Judged:
    return judge(claim(what, target), parse(raw))


def markdown_of(raw: dict[str, Any]) -> str:
    results = parse(raw)
    return to_markdown(build(results, [], raw), "img")


# --- Generated files -----------------------------------------------------------------------------------------------


def test_docs_benchmark_md_is_the_report_of_docs_benchmark_json() -> None:
    charts = draw_all(parse(RAW))
    page = to_markdown(build(parse(RAW), charts, RAW), "img")
    assert (DOCS / "benchmark.md").read_text(encoding="utf-8") == page, ANEW
    assert {path.stem for path in (DOCS / "img").glob("*.svg")} >= {chart.name for chart in charts}, ANEW
    for each in (judge(claim, parse(RAW)) for claim in CLAIMS):
        assert f"| {each.claim.claimed} | {each.measured} | {each.said} |" in page


def test_the_benchmark_results_in_docs_are_complete() -> None:
    assert parse(RAW).complete


def test_the_readme_contains_the_main_table_of_the_benchmark() -> None:
    table = headline(parse(RAW))
    assert table_markdown(table) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [row[0] for row in table.rows] == [STYLES[target].title for target in TARGETS]


def test_the_report_writes_its_page_and_charts_and_json_from_the_same_results(tmp_path: Path) -> None:
    page = write(DOCS / "benchmark.json", tmp_path / "out", tmp_path / "docs")
    markdown = (tmp_path / "docs" / "benchmark.md").read_text(encoding="utf-8")
    drawn = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(drawn) == 8
    assert all((tmp_path / "docs" / name).is_file() for name in drawn)
    assert json.loads((tmp_path / "docs" / "benchmark.json").read_text(encoding="utf-8")) == RAW
    raw = re.search(r"as JSON</summary><pre><code>(.*?)</code></pre>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert raw is not None
    assert json.loads("".join(read(raw[1]).text)) == RAW


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON"])
def test_an_invalid_results_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's error is a ValueError too
        write(path, tmp_path)


# --- Verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        (0.08 * MB, Verdict.TOO_HIGH, "188 times too high"),
        (13.4 * MB, Verdict.TOO_HIGH, "1.1 times too high"),
        (13.6 * MB, Verdict.HELD, "held"),
        (38.4 * MB, Verdict.HELD, "held"),
        (38.6 * MB, Verdict.TOO_LOW, "1.1 times too low"),
        (-1.0, Verdict.TOO_HIGH, "too high"),
    ],
)
def test_a_claim_holds_if_the_value_is_inside_its_range_or_at_most_a_tenth_beyond_it(
    value: float, expected: Verdict, said: str
) -> None:
    subject = claim("each further request, embedded", "embedded")
    assert verdict(subject, Figure(value)) is expected
    assert Judged(subject, Figure(value), expected).said == said


def test_a_claim_that_states_no_numbers_holds_or_is_wrong_depending_on_the_measured_ratio() -> None:
    winner = claim("the winner, at 200")
    assert [verdict(winner, Figure(value)) for value in (0.5, 1.5)] == [Verdict.HELD, Verdict.WRONG]


def test_a_limit_is_reported_as_met_or_reached_or_missed_or_failed() -> None:
    rate = LIMIT["requests per second of server CPU, 64 KB, cached"]
    assert [limit_verdict(rate, Figure(value)) for value in (2000, 800, 799)] == list(Reached)[:3]
    idle = LIMIT["the same, once idle"]
    assert [limit_verdict(idle, Figure(value * MB)) for value in (50, 51)] == [Reached.AIM, Reached.MISSED]
    stall = LIMIT["longest stall of a stream meanwhile"]
    assert [limit_verdict(stall, Figure(value)) for value in (0.25, 0.26)] == [Reached.REACH, Reached.MISSED]
    assert limit_verdict(idle, NotMeasured("x", failed=True)) is Reached.FAILED


def test_limits_have_unique_names_and_name_existing_scenarios() -> None:
    assert len(LIMIT) == len(LIMITS)
    assert {limit.command.split()[2] for limit in LIMITS} <= set(SCENARIOS)


@pytest.mark.parametrize(
    ("text", "low", "high", "shown"),
    [
        ("80 to 1100 MB", 80e6, 1.1e9, "80 MB to 1.1 GB"),
        ("8 KB to 1 MB", 8e3, 1e6, "8 KB to 1 MB"),
        ("about 500 ms", 0.375, 0.625, "about 500 ms"),
        ("about 60 ± 5 %", 0.55, 0.65, "about 60 %"),
        ("at most 2 ×", None, 2.0, "at most 2 ×"),
        ("at least 800", 800.0, None, "at least 800"),
        ("0", 0.0, 0.0, "0"),
        ("", None, None, ""),
    ],
)
def test_a_parsed_range_of_values_is_written_in_normalized_units(
    text: str, low: float | None, high: float | None, shown: str
) -> None:
    found = parse_range(text)
    assert (found.low, found.high) == (pytest.approx(low) if low else low, pytest.approx(high) if high else high)
    assert str(found) == shown


@pytest.mark.parametrize("text", ["much", "10 to", "about 5 to 6 MB", "10 TB", "at most 5 ± 1"])
def test_a_malformed_range_of_values_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid range"):
        parse_range(text)


# --- Where a figure is found ---------------------------------------------------------------------------------------

CROWDS = run(
    crowd=[crowd("subprocess", 10), crowd("subprocess", 50), crowd("relay", 1000, failed=1), crowd("relay", 50)]
)
PROFILE = {"profile": "large", "carried": 50, "asked": 50}
PROMISE = {"target": "relay", "limit": "cgroup", "clients": 9, "served": 7, "refused": 2, "timed_out": 0, "held": 6}
SATURATION = {"target": "relay", "extracting": True, "seconds": 15.0, "lag_p99": 0.02, "lag_seconds": 20.0}
SERIES = {"target": "relay", "pss": [10, 40, 44, 44, 20], "clients": [0, 5, 5, 5, 0], "t": [0, 1, 2, 3, 4]}
OVER_TIME = {"meta": {}, "scenarios": [{"name": "over-time", "status": "done", "series": [SERIES]}]}


@pytest.mark.parametrize(
    ("raw", "selector", "expected"),
    [
        (CROWDS, "crowd(relay, 50, http)[peak_pss - base_pss]", Figure(100 * MB)),
        (CROWDS, "crowd(relay, max, http)[each_pss]", Figure(2 * MB, "50 at once")),
        (CROWDS, "crowd(relay, 1000, http)[each_pss]", NotMeasured("failed: 1 of 1000 clients failed", failed=True)),
        (CROWDS, "crowd(relay, 50, http)[lag]", NotMeasured("this run has no `lag`")),
        (CROWDS, "crowd(nginx, 50, http)[each_pss]", NotMeasured("not part of this run")),
        (CROWDS, "beside_nginx(crowd(relay, 50, http)[each_pss], crowd(subprocess, 50, http)[base_pss])",
         Figure(2 * MB, "0.022 × nginx")),
        (CROWDS, "1 - peak(relay, 50) / peak(subprocess, 50)", Figure(0)),
        (CROWDS, "peak(subprocess, 200)", Figure(490 * MB, "extrapolated from 50 at once")),
        (CROWDS, "peak(relay, 200)", NotMeasured("not part of this run")),
        (CROWDS, "1 / (peak(relay, 50) - peak(subprocess, 50))", NotMeasured("too small to compare")),
        (CROWDS, "max(*crowd(subprocess)[clients])", Figure(50)),
        (CROWDS, "none: not a figure", NotMeasured("not a figure")),
        (OVER_TIME, "over_time(relay)[peak]", Figure(44, "5 clients")),
        (OVER_TIME, "over_time(relay)[(end - start) / (peak - start)]", Figure(10 / 34)),
        (OVER_TIME, "over_time(relay)[(late - early) / early]", Figure(0.1)),
        (run(profiles=[PROFILE]), "profiles(large)[carried_of(carried, asked, 100)]",
         NotMeasured("only 50 clients connected, and all were served")),
        (run(profiles=[PROFILE]), "profiles(large)[carried_of(carried, asked, 20)]", Figure(50, "all that connected")),
        (run(profiles=[PROFILE | {"asked": 80}]), "profiles(large)[carried_of(carried, asked, 100)]", Figure(50)),
        (run(promise=[PROMISE]), "promise(relay, True)[held]", Figure(6, "7 of 9 served, 2 refused with Retry-After")),
        (run(promise=[PROMISE | {"wrong": 1}]), "promise(relay, True)[held]",
         NotMeasured("failed: 1 of 9 clients got wrong bytes", failed=True)),
        (run(saturation=[SATURATION]), "saturation(relay, True)[lag_p99]",
         Figure(0.02, "15 s of the 20 s that the meter covers")),
        (run(mixed=[{"target": "relay", "requests": 500, "zombies": 1}]), "mixed(relay)[max(0, zombies)]",
         Figure(1, "500 requests")),
    ],
)  # fmt: skip
def test_a_selector_of_the_report_returns_a_figure_or_the_reason_why_the_figure_was_not_measured(
    raw: dict[str, Any], selector: str, expected: Figure | NotMeasured
) -> None:
    found = find(selector, parse(raw))
    if isinstance(found, Figure) and isinstance(expected, Figure):
        assert found.value == pytest.approx(expected.value)
        assert found.note == expected.note
    else:
        assert found == expected


@pytest.mark.parametrize("selector", ["crowd(relay)", "nonsense", "open('x')", "[1]", "crowd(relay, max, http)['x']"])
def test_a_malformed_selector_of_the_report_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="invalid selector"):
        find(selector, parse(CROWDS))


@pytest.mark.parametrize("lost", [{"failed": 3}, {"refused": 150}, {"complete": 199}])
def test_a_claim_about_a_crowd_fails_if_not_all_clients_of_the_crowd_were_served(lost: dict[str, Any]) -> None:
    found = judged(run(crowd=[crowd("embedded", 200, **lost)]), "embedded, at 200", "embedded")
    assert found.verdict is Verdict.FAILED
    assert "of 200 clients" in found.measured


def test_the_report_of_an_empty_run_shows_no_numbers(tmp_path: Path) -> None:
    empty = run()
    for each in CLAIMS:
        assert judge(each, parse(empty)).said == "not measured"
    assert all(measure(limit, parse(empty)).verdict is Reached.NOT_MEASURED for limit in LIMITS)
    assert draw_all(parse(empty)) == []
    assert "No figures were measured that a chart could show." in markdown_of(empty)


@pytest.mark.parametrize("name", [each["name"] for each in RAW["scenarios"]])
def test_a_missing_scenario_changes_only_the_claims_that_depend_on_it(name: str) -> None:
    whole, partly = parse(RAW), parse(changed(name))
    for each in CLAIMS:
        before, after = judge(each, whole), judge(each, partly)
        assert after.verdict is Verdict.NOT_MEASURED or after.measured == before.measured


# --- Failures ------------------------------------------------------------------------------------------------------


def test_the_report_shows_a_failed_scenario_with_its_reason() -> None:
    reason = f"GC_AFTER_STREAM=true: {'it did not start, ' * 20}<died>"
    raw = changed("collect", status="failed", reason=reason, rows=[])
    found = judged(raw, "collecting garbage after each request saves")
    assert found.verdict is Verdict.FAILED
    assert found.measured.endswith(" …)"), "a long reason is cut in the tables"
    page = markdown_of(raw)
    assert "This run is not complete: collect (failed: GC_AFTER_STREAM=true: it did not start" in page
    assert f"`collect` failed: {reason}.".replace("<died>", "&lt;died&gt;") in page
    assert (
        judged(changed("rate", status="incomplete", rows=[]), "requests per second, embedded", "seed").said == "failed"
    )
    skipped = changed("overload", status="skipped", reason="not asked for", rows=[])
    assert judged(skipped, "a limit on concurrent streams keeps memory down").said == "not measured"


def test_the_report_keeps_the_rows_that_a_scenario_measured_before_it_failed() -> None:
    rows = [crowd("relay", 10)]
    raw = changed("crowd", status="failed", reason="ServerPY embedded, 200 clients, http: the server died", rows=rows)
    assert judged(raw, "extract then stream, at 10", "relay").measured == "110 MB"
    assert judged(raw, "embedded, at 10", "embedded").verdict is Verdict.FAILED
    by_title = {row[0]: row for row in headline(parse(raw)).rows}
    assert by_title["ServerPY embedded"][2].startswith("failed")


def test_the_report_shows_a_program_that_is_not_installed_as_not_installed() -> None:
    raw = changed("crowd")
    raw["meta"]["missing"] = {"httpx-relay": "httpx is not installed"}
    assert judged(raw, "10 at once", "httpx-relay").measured == "not measured (httpx is not installed)"


def test_a_second_run_adds_the_scenarios_that_are_missing_or_failed_in_the_first_run() -> None:
    failed = changed("collect", status="failed", reason="out of memory", rows=[])
    both = together(failed, RAW)
    found = {each["name"]: each for each in both["scenarios"]}
    assert (found["collect"]["status"], len(found)) == ("done", len(both["scenarios"]))
    assert both["meta"]["added"][-1]["scenarios"] == ["collect"]
    assert f"| added: collect | {RAW['meta']['started']}, by {RAW['meta']['command']} |" in markdown_of(both)


# --- The page ------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """HTML parser that collects the text of a page, its open elements, its tags, and the values of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()
        self.values: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        for name, value in attrs:
            self.values.setdefault(name, []).append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def test_the_html_report_is_well_formed_and_has_no_external_references() -> None:
    results = parse(RAW)
    html = to_html(build(results, draw_all(results), RAW))
    reader = read(html)
    assert reader.open == []
    ids = reader.values["id"]
    assert len(ids) == len(set(ids))
    for name in ("href", "src", "xlink:href", "srcset", "action", "poster"):
        assert all(value.startswith("#") and value[1:] in ids for value in reader.values.get(name, ()))
    assert reader.tags.isdisjoint(("script", "link", "img", "iframe", "object"))
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_the_report_escapes_markup_in_text_from_the_results() -> None:
    hostile = "<script>alert(1)</script> | &amp;"
    page = Page("T", (Paragraph(hostile), Bullets((hostile,)), Table(("a",), ((hostile,),))))
    assert "<script" not in to_html(page)
    assert to_markdown(page, "img").endswith(
        "| a |\n| --- |\n| &lt;script&gt;alert(1)&lt;/script&gt; \\| &amp;amp; |\n"
    )


# --- Charts and figures --------------------------------------------------------------------------------------------


def test_charts_are_well_formed_svg_and_deterministic() -> None:
    charts, again = draw_all(parse(RAW)), draw_all(parse(RAW))
    assert charts == again
    for chart in charts:
        root = ElementTree.fromstring(chart.svg)
        svg = "{http://www.w3.org/2000/svg}"
        assert (root.findtext(f"{svg}title"), root.findtext(f"{svg}desc")) == (chart.title, chart.caption)
        assert next(root.iter(f"{svg}text"), None) is not None, "text is not drawn as paths"
        assert next(root.iter(f"{svg}image"), None) is None
        assert "prefers-color-scheme:dark" in chart.svg
        assert "#010203" not in chart.svg


@pytest.mark.parametrize("colour", sorted({style.colour for style in STYLES.values()} | set(PARTS)))
@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_chart_colours_have_enough_contrast_on_the_light_and_the_dark_page(colour: str, paper: str) -> None:
    """The contrast must be at least 3 to 1 (WCAG 2.2, 1.4.11)."""
    lighter, darker = sorted((luminance(colour), luminance(paper)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (79_000, "bytes", "0.079 MB"),
        (999.6 * MB, "bytes", "1 GB"),
        (8192, "bytes", "8.2 KB"),
        (0, "bytes", "0 bytes"),
        (-1.5 * MB, "bytes", "-1.5 MB"),
        (0.0123, "seconds", "12.3 ms"),
        (3.1, "seconds", "3.1 s"),
        (0.793, "share", "79.3 %"),
        (26.04, "times", "26 ×"),
        (1000, "count", "1,000"),
        (900.0, "per second", "900 /s"),
        (600 * MB, "bytes per second", "600 MB/s"),
    ],
)
def test_a_figure_is_written_as_a_number_with_its_unit(value: float, unit: Unit, text: str) -> None:
    assert figure(value, unit) == text


def test_small_figures_keep_their_digits_and_whole_sizes_have_binary_units() -> None:
    assert digits(0.000079) == "0.000079"
    assert [whole_size(n) for n in (65536, 1 << 20, 1 << 30, 1_000_000)] == ["64 KiB", "1 MiB", "1 GiB", "1 MB"]
