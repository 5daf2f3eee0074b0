"""The report tells what was measured, and of the rest why not: never a number that is none."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from serverpy.bench.measure.scenarios import SCENARIOS
from serverpy.bench.report.claims import SECTIONS, Claim, Verdict, judge, verdict
from serverpy.bench.report.limits import LIMITS, Reached, measure
from serverpy.bench.report.page import Bullets, Page, Paragraph, Table, to_html, to_markdown
from serverpy.bench.report.plots import PARTS, draw_all
from serverpy.bench.report.remarks import REMARKS, say
from serverpy.bench.report.results import Figure, NotMeasured, parse
from serverpy.bench.report.styles import SHOWN
from serverpy.bench.report.units import Unit, digits, figure, whole_size
from serverpy.bench.report.write import HEADLINE, headline, together, write
from tests.bench.sample_results import MB, crowd, promise, saturation, scenario, whole_run

SVG = "{http://www.w3.org/2000/svg}"
CLAIMS = {claim.key: claim for section in SECTIONS for claim in section.claims}


def report(results: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Markdown and HTML."""
    path = folder / "results.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    page = write(path, folder)
    return (folder / "report.md").read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


def tables(markdown: str) -> list[list[list[str]]]:
    """Every table: its rows, split into cells at bars that are not escaped."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        for block in blocks
    ]


class Reader(HTMLParser):
    """The text of a page, its open elements, and whatever in it points elsewhere."""

    VOID = frozenset(("meta", "br", "hr", "img", "link", "input"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action", "data", "srcset", "poster"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def without(name: str) -> dict[str, Any]:
    """The whole run but for one scenario."""
    run = whole_run()
    run["scenarios"] = [each for each in run["scenarios"] if each["name"] != name]
    return run


# --- Claims --------------------------------------------------------------------------------------------------------


def test_every_claim_stands_in_the_report_with_what_was_measured_and_the_verdict(tmp_path: Path) -> None:
    markdown, html = report(whole_run(), tmp_path)
    results = parse(whole_run())
    rows = [row for table in tables(markdown) for row in table]
    text = "".join(read(html).text)
    for claim in CLAIMS.values():
        judged = judge(claim, results)
        subject = f"{claim.what}: {claim.on}" if claim.on else claim.what
        assert [subject, claim.claimed, judged.measured, judged.said] in rows
        assert judged.measured.replace("`", "") in text


def test_every_section_of_the_document_is_there(tmp_path: Path) -> None:
    markdown, _ = report(whole_run(), tmp_path)
    for section in SECTIONS:
        assert f"### {section.title}\n\nIn the document: {section.source}." in markdown


def test_claims_have_names_of_their_own() -> None:
    assert len(CLAIMS) == sum(len(section.claims) for section in SECTIONS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.079 * MB, Verdict.TOO_HIGH),
        (13.4 * MB, Verdict.TOO_HIGH),
        (13.6 * MB, Verdict.HELD),
        (25 * MB, Verdict.HELD),
        (38.4 * MB, Verdict.HELD),
        (38.6 * MB, Verdict.TOO_LOW),
    ],
)
def test_a_claim_holds_inside_its_range_and_a_tenth_around_it(value: float, expected: Verdict) -> None:
    assert verdict(CLAIMS["sum-next-embedded"], Figure(value)) is expected


def test_a_comparison_is_held_or_wrong() -> None:
    winner = CLAIMS["200-winner"]
    assert verdict(winner, Figure(0.5)) is Verdict.HELD
    assert verdict(winner, Figure(1.5)) is Verdict.WRONG


def test_a_verdict_says_by_how_much() -> None:
    judged = judge(CLAIMS["200-embedded-embedded"], parse(whole_run()))
    assert judged.said == "26 times too high"


def test_what_was_not_measured_has_no_number_and_no_verdict() -> None:
    empty = parse({"meta": {}, "scenarios": []})
    for claim in CLAIMS.values():
        judged = judge(claim, empty)
        assert judged.verdict is Verdict.NOT_MEASURED
        assert judged.measured.startswith("not measured (")
        assert judged.said == "not measured"


@pytest.mark.parametrize("name", [each["name"] for each in whole_run()["scenarios"]])
def test_a_missing_scenario_leaves_its_claims_not_measured_and_changes_no_other(name: str) -> None:
    whole, partly = parse(whole_run()), parse(without(name))
    for claim in CLAIMS.values():
        before, after = judge(claim, whole), judge(claim, partly)
        assert after.verdict is Verdict.NOT_MEASURED or after.measured == before.measured


def test_children_that_were_not_started_in_that_number_are_marked_as_extrapolated() -> None:
    judged = judge(CLAIMS["200-child-subprocess"], parse(whole_run()))
    assert judged.measured == "9.5 GB (extrapolated from 50 at once)"


@pytest.mark.parametrize(
    ("carried", "asked", "expected", "text"),
    [
        (50, 50, Verdict.NOT_MEASURED, "not measured (only 50 asked, and all were carried)"),
        (60, 80, Verdict.TOO_HIGH, "60"),
        (300, 300, Verdict.TOO_LOW, "300 (all that asked)"),
    ],
)
def test_a_run_which_asks_for_few_says_nothing_of_many(carried: int, asked: int, expected: Verdict, text: str) -> None:
    rows = [{"profile": "large", "carried": carried, "asked": asked}]
    judged = judge(CLAIMS["large-users"], parse({"meta": {}, "scenarios": [scenario("profiles", rows)]}))
    assert (judged.verdict, judged.measured) == (expected, text)


def test_nothing_else_is_extrapolated() -> None:
    run = whole_run()
    for each in run["scenarios"]:
        if each["name"] == "crowd":
            each["rows"] = [row for row in each["rows"] if row["clients"] != 200]
    assert judge(CLAIMS["200-embedded-embedded"], parse(run)).verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize("lost", [{"failed": 3}, {"refused": 150}, {"complete": 199}])
def test_a_crowd_which_was_not_served_whole_is_a_failure(lost: dict[str, Any]) -> None:
    rows = [crowd("embedded", 200, 116.0, 0.3, **lost)]
    judged = judge(CLAIMS["200-embedded-embedded"], parse({"meta": {}, "scenarios": [scenario("crowd", rows)]}))
    assert judged.verdict is Verdict.FAILED
    assert "of 200 clients" in judged.measured


def test_a_row_without_its_figure_is_no_zero() -> None:
    rows = [crowd("embedded", 10, 116.0, 0.3, each_pss=None)]
    judged = judge(CLAIMS["emb-average-embedded"], parse({"meta": {}, "scenarios": [scenario("crowd", rows)]}))
    assert judged.measured == "not measured (this run has no `each_pss`)"


# --- Limits --------------------------------------------------------------------------------------------------------

BY_NAME = {limit.what: limit for limit in LIMITS}
STALL = "longest stall of a stream meanwhile"
LAG = "lag of the event loop while extractions saturate, 99th percentile"
LEFT = "threads, descriptors, processes and zombies left by them"
PROMISE = "part of the budget and a tenth that `relay` takes under 2,000 clients"


def only(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"meta": {}, "scenarios": [scenario(name, rows)]}


def limit(what: str, run: dict[str, Any]) -> tuple[Reached, str]:
    measured = measure(BY_NAME[what], parse(run))
    return measured.verdict, measured.said


def test_every_limit_stands_in_the_report_with_its_bounds_its_figure_and_how_to_get_it(tmp_path: Path) -> None:
    markdown, html = report(whole_run(), tmp_path)
    rows = [row for table in tables(markdown) for row in table]
    for each in LIMITS:
        found = measure(each, parse(whole_run()))
        bounds = [each.bound(each.reach), each.bound(each.aim)]
        assert [each.what, *bounds, found.said, f"`{each.command}`", found.verdict.value] in rows
    assert "At the limit" in html


def test_limits_have_names_of_their_own_and_commands_that_exist() -> None:
    assert len(BY_NAME) == len(LIMITS)
    for each in LIMITS:
        scenario_name = each.command.removeprefix("serverpy bench ").split()[0]
        assert scenario_name in SCENARIOS


@pytest.mark.parametrize(
    ("what", "verdict", "said"),
    [
        ("each further slow stream, http source, 1,000 clients", Reached.AIM, "0.079 MB (1.1 × nginx)"),
        ("each further slow stream, https source, 200 clients", Reached.AIM, "0.16 MB (1.1 × nginx)"),
        ("each further slow stream, https source, 1,000 clients", Reached.NOT_MEASURED, "not measured"),
        ("server and worker after start and first extraction", Reached.REACH, "106 MB"),
        ("the same, once idle", Reached.MISSED, "50.4 MB"),
        ("200 relayed streams on top of that", Reached.AIM, "15.8 MB"),
        ("CPU for each GB, http source, against nginx", Reached.REACH, "1.2 ×"),
        ("first byte over the origin's own, cached, one at a time, median", Reached.REACH, "4 ms"),
        ("the same, 50 in flight, 99th percentile", Reached.MISSED, "176 ms"),
        ("requests for each second of server CPU, 64 KB, cached", Reached.REACH, "900"),
        ("CPU of an extraction", Reached.REACH, "21 ms"),
        (LAG, Reached.AIM, "7 ms"),
        (STALL, Reached.REACH, "60 ms"),
        ("growth after 10,000 mixed requests (RSS)", Reached.AIM, "1.5 MB"),
        (LEFT, Reached.AIM, "0"),
        (PROMISE, Reached.REACH, "54.2 % (1,200 of 2,000 served, 800 told to come again)"),
    ],
)
def test_a_limit_is_reached_met_or_missed(what: str, verdict: Reached, said: str) -> None:
    found = limit(what, whole_run())
    assert found[0] is verdict
    assert found[1].startswith(said)


def test_a_short_watch_says_how_much_of_the_meters_minute_it_was() -> None:
    rows = [saturation("relay", True, 0.02, 0.06, seconds=15.0, lag_seconds=20.0)]
    assert limit(LAG, only("saturation", rows)) == (Reached.REACH, "20 ms (15 s of the 20 s that the meter has)")


def test_a_promise_that_gave_wrong_bytes_is_a_failure() -> None:
    assert limit(PROMISE, only("promise", [promise("relay", None, wrong=1)]))[0] is Reached.FAILED
    assert limit(PROMISE, only("promise", [promise("relay", None, highest_pss=900 * MB)]))[0] is Reached.MISSED


def test_one_thing_left_misses_the_limit() -> None:
    run = whole_run()
    next(each for each in run["scenarios"] if each["name"] == "mixed")["rows"][0]["fds_after"] = 33
    assert limit(LEFT, run) == (Reached.MISSED, "1")


# --- Failures ------------------------------------------------------------------------------------------------------


def failed_run() -> dict[str, Any]:
    """One scenario failed at one target, one altogether, one was interrupted, one skipped."""
    run = whole_run()
    run["meta"]["complete"] = False
    by_name = {each["name"]: each for each in run["scenarios"]}
    rows = [row for row in by_name["crowd"]["rows"] if row["target"] != "embedded"]
    by_name["crowd"] |= {
        "status": "failed",
        "reason": "ServerPY embedded, 200 clients, http: the server <died>",
        "rows": rows,
    }
    by_name["collect"] |= {"status": "failed", "reason": "GC_AFTER_STREAM=true: out of memory", "rows": []}
    by_name["rate"] |= {"status": "incomplete", "reason": "interrupted at relay, cold", "rows": []}
    by_name["overload"] |= {"status": "skipped", "reason": "nothing of it was asked for", "rows": []}
    return run  # fmt: skip


def test_a_failed_scenario_is_shown_as_failed_with_its_reason(tmp_path: Path) -> None:
    markdown, html = report(failed_run(), tmp_path)
    assert "This run is not complete" in markdown
    for text in (markdown, html):
        assert "the server &lt;died&gt;" in text
        assert "<died>" not in text.split("Everything that was measured, as JSON")[0]
    assert "out of memory" in markdown
    results = parse(failed_run())
    assert judge(CLAIMS["gc-memory"], results).verdict is Verdict.FAILED
    assert judge(CLAIMS["end-rate-embedded"], results).verdict is Verdict.FAILED
    assert judge(CLAIMS["limit"], results).verdict is Verdict.NOT_MEASURED


def test_what_a_scenario_measured_before_it_failed_elsewhere_is_kept() -> None:
    results = parse(failed_run())
    assert judge(CLAIMS["10-extract-relay"], results).measured == "108 MB"
    lost = judge(CLAIMS["10-embedded-embedded"], results)
    assert lost.verdict is Verdict.FAILED
    assert "the server <died>" in lost.measured


def test_a_long_reason_is_cut_in_the_tables_and_whole_with_its_scenario(tmp_path: Path) -> None:
    run = failed_run()
    reason = f"GC_AFTER_STREAM=true: {'it did not start, ' * 20}as its log says"
    next(each for each in run["scenarios"] if each["name"] == "collect")["reason"] = reason
    assert judge(CLAIMS["gc-memory"], parse(run)).measured.endswith(" …)")
    markdown, _ = report(run, tmp_path)
    assert f"`collect` failed: {reason}." in markdown


def test_a_target_that_is_not_installed_says_so() -> None:
    run = without("crowd")
    run["meta"]["missing"] = {"httpx-relay": "httpx is not installed"}
    assert judge(CLAIMS["10-extract-httpx-relay"], parse(run)).measured == "not measured (httpx is not installed)"


def test_an_empty_run_makes_a_report_without_charts(tmp_path: Path) -> None:
    markdown, html = report({"meta": {}, "scenarios": []}, tmp_path)
    assert "Nothing that could be drawn was measured." in markdown
    assert "<svg" not in html
    assert not (tmp_path / "img").exists()


def test_scenarios_of_another_run_are_added_and_named(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps(without("soak")), encoding="utf-8")
    other = whole_run()
    other["meta"] |= {"command": "serverpy bench soak", "started": "2026-11-23T08:00:00Z"}
    second.write_text(json.dumps(other), encoding="utf-8")
    write(first, tmp_path, tmp_path / "docs", (second,))
    markdown = (tmp_path / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert "| added: soak | 2026-11-23T08:00:00Z, by serverpy bench soak |" in markdown
    assert (tmp_path / "docs" / "img" / "soak.svg").exists()
    assert write(tmp_path / "docs" / "benchmark.json", tmp_path).exists(), "what was written is results again"


def test_what_is_no_results_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("[]", "{}", "not JSON"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError):  # noqa: PT011 - JSON's error is one, too
            write(path, tmp_path)


# --- Texts ---------------------------------------------------------------------------------------------------------


def test_a_remark_has_a_text_for_each_way_its_claim_can_fall() -> None:
    for remark in REMARKS:
        claim = CLAIMS[remark.about[0]]
        ways = {Verdict.HELD}
        if claim.says:
            ways |= {Verdict.WRONG}
        else:
            ways |= {Verdict.TOO_HIGH} if claim.low is not None else set()
            ways |= {Verdict.TOO_LOW} if claim.high is not None else set()
        assert remark.always if not remark.by else ways == set(remark.by), remark.title


def test_remarks_are_about_claims_that_are_there_and_say_what_was_measured() -> None:
    results = parse(whole_run())
    judged = {key: judge(claim, results) for key, claim in CLAIMS.items()}
    for remark in REMARKS:
        said = say(remark, judged)
        assert judged[remark.about[0]].measured in said.text


def test_a_remark_on_what_was_not_measured_says_only_that() -> None:
    results = parse({"meta": {}, "scenarios": []})
    judged = {key: judge(claim, results) for key, claim in CLAIMS.items()}
    for remark in REMARKS:
        text = say(remark, judged).text
        assert "not measured" in text
        assert remark.always == "" or remark.always not in text


# --- The page ------------------------------------------------------------------------------------------------------


def test_the_html_is_whole_and_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    _, html = report(whole_run(), tmp_path)
    reader = read(html)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert all(target.startswith("#") and target[1:] in reader.ids for target in reader.targets)
    assert reader.tags.isdisjoint(("script", "link", "img", "iframe", "object"))
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    addresses = set(re.findall(r"https?://[^\s\"<]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_report_names_machine_versions_command_and_carries_the_raw_figures(tmp_path: Path) -> None:
    markdown, html = report(whole_run(), tmp_path)
    for text in (markdown, html):
        for fact in ("serverpy bench", "A &lt;small&gt; CPU &amp; more, 2 cores", "3.11.2", "2026.8.19", "Debian 12"):
            assert fact in text
        assert "not installed" in text
    raw = re.search(r"as JSON</summary><pre><code>(.*?)</code></pre>", html, re.DOTALL)
    assert raw is not None
    assert json.loads("".join(read(raw[1]).text)) == whole_run()


def test_markdown_tables_have_as_many_cells_in_each_row(tmp_path: Path) -> None:
    markdown, _ = report(failed_run(), tmp_path)
    found = tables(markdown)
    assert len(found) > len(SECTIONS)
    for head, rule, *rows in found:
        assert rule == ["---"] * len(head)
        assert all(len(row) == len(head) for row in rows)


def test_text_of_others_cannot_become_markup() -> None:
    hostile = "<script>alert(1)</script> | &amp;"
    page = Page("T", (Paragraph(hostile), Bullets((hostile,)), Table(("a",), ((hostile,),))))
    assert "<script" not in to_html(page)
    markdown = to_markdown(page, "img")
    assert "<script" not in markdown
    assert tables(markdown) == [[["a"], ["---"], ["&lt;script&gt;alert(1)&lt;/script&gt; \\| &amp;amp;"]]]


def test_the_documentation_is_written_from_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(whole_run()), encoding="utf-8")
    write(path, tmp_path / "out", tmp_path / "docs")
    docs = tmp_path / "docs"
    markdown = (docs / "benchmark.md").read_text(encoding="utf-8")
    drawn = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(drawn) == 8
    assert all((docs / name).is_file() for name in drawn)
    assert json.loads((docs / "benchmark.json").read_text(encoding="utf-8")) == whole_run()


# --- The headline --------------------------------------------------------------------------------------------------


def test_the_headline_has_a_row_for_every_target_and_the_cost_of_a_stream() -> None:
    head, *rows = headline(whole_run())
    assert [row[0] for row in rows] == [SHOWN[target].title for target in HEADLINE]
    assert all(len(row) == len(head) for row in rows)
    by_title = {row[0]: row for row in rows}
    assert by_title["ServerPY relay"][1:] == (
        "107 MB", "0.079 MB (1,000 at once)", "0.16 MB (200 at once)", "1.2 s", "1.2 ×"
    )  # fmt: skip
    assert set(by_title["streamlink"][1:]) == {"not measured"}


def test_the_headline_shows_a_failure_as_one() -> None:
    rows = {row[0]: row for row in headline(failed_run())}
    assert rows["ServerPY embedded"][2].startswith("failed")


# --- Charts --------------------------------------------------------------------------------------------------------


def test_the_charts_are_well_formed_and_their_text_is_text() -> None:
    plots = {plot.name: plot for plot in draw_all(parse(whole_run()))}
    assert set(plots) == {"per-stream", "by-clients", "over-time", "breakdown", "queue", "cpu", "promise", "soak"}
    for plot in plots.values():
        root = ElementTree.fromstring(plot.svg)
        assert root.get("role") == "img"
        assert root.findtext(f"{SVG}title") == plot.title
        assert root.findtext(f"{SVG}desc") == plot.caption
        assert next(root.iter(f"{SVG}text"), None) is not None
        assert next(root.iter(f"{SVG}image"), None) is None
        assert "prefers-color-scheme:dark" in plot.svg
        assert "#010203" not in plot.svg
    assert "0.079 MB" in plots["per-stream"].svg
    assert "2.6 s · 2.6 × nginx" in plots["cpu"].svg


def test_the_same_results_are_drawn_the_same() -> None:
    first, second = (draw_all(parse(whole_run())) for _ in range(2))
    assert first == second
    assert all("<dc:date>" not in plot.svg for plot in first)


def test_what_was_not_measured_is_not_drawn() -> None:
    run = without("hand-over")
    assert "queue" not in {plot.name for plot in draw_all(parse(run))}
    assert draw_all(parse({"meta": {}, "scenarios": []})) == []


@pytest.mark.parametrize("colour", sorted({look.colour for look in SHOWN.values()} | set(PARTS)))
@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_colours_stand_out_from_the_light_and_the_dark_page(colour: str, paper: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1."""
    lighter, darker = sorted((luminance(colour), luminance(paper)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- Figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (79_000, "bytes", "0.079 MB"),
        (107.4 * MB, "bytes", "107 MB"),
        (999.6 * MB, "bytes", "1 GB"),
        (10.9e9, "bytes", "10.9 GB"),
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
def test_figures_are_written_with_their_unit(value: float, unit: Unit, text: str) -> None:
    assert figure(value, unit) == text


def test_small_figures_are_not_rounded_away() -> None:
    assert digits(0.000079) == "0.000079"


def test_sizes_that_were_set_are_binary() -> None:
    assert [whole_size(n) for n in (65536, 1 << 20, 1 << 30, 1_000_000)] == ["64 KiB", "1 MiB", "1 GiB", "1 MB"]


def test_a_claim_needs_a_range_or_words() -> None:
    claim = Claim(key="x", what="x", find=lambda _: NotMeasured("x"), unit="bytes", low=None, high=2 * MB)
    assert claim.claimed == "at most 2 MB"


def test_another_run_brings_what_failed_in_the_first() -> None:
    other = whole_run()
    other["scenarios"] = [each for each in other["scenarios"] if each["name"] in ("collect", "workers")]
    first = failed_run()
    both = together(first, other)
    found = {each["name"]: each for each in both["scenarios"]}
    assert found["collect"]["status"] == "done"
    assert len(found) == len(both["scenarios"]) == len(first["scenarios"])
    assert both["meta"]["added"][-1]["scenarios"] == ["collect"]
