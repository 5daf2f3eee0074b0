"""The report, from `results.json` alone: Markdown, one HTML page, and the charts.

`write` is what `serverpy bench` calls at the end of a run, complete or not; `headline` is the table that it prints and
that the README shows. Nothing here measures, and nothing here turns what is missing into a number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serverpy.bench.canvas import Plot
from serverpy.bench.claims import CONTRADICTIONS, SECTIONS, Judged, Verdict, judge
from serverpy.bench.compare import AGAINST, compared, comparison
from serverpy.bench.finders import each, largest_crowd
from serverpy.bench.limits import LIMITS, Reached, measure
from serverpy.bench.looks import SHOWN, shown
from serverpy.bench.measured import Figure, Found, NotMeasured, Results, Row, noted, number, parse
from serverpy.bench.page import (
    Block,
    Bullets,
    Code,
    Drawing,
    Heading,
    Page,
    Paragraph,
    Table,
    table_markdown,
    to_html,
    to_markdown,
)
from serverpy.bench.plots import draw_all
from serverpy.bench.raw_tables import everything
from serverpy.bench.remarks import REMARKS, say
from serverpy.bench.units import Unit, digits, figure, seconds, size, whole_size

TITLE = "What streaming costs, measured"
HEAD = ("what relays", "memory before the first reader", "each further stream", "the same, https source",
        "CPU for each GB", "CPU against nginx")  # fmt: skip
HEADLINE = ("nginx", "relay", "embedded", "seed", "httpx-relay", "mediaflow", "streamlink", "subprocess")
MARKS = {
    Verdict.HELD: "good", Verdict.TOO_HIGH: "bad", Verdict.TOO_LOW: "bad", Verdict.WRONG: "bad",
    Verdict.FAILED: "bad", Verdict.NOT_MEASURED: "none",
}  # fmt: skip
LIMIT_MARKS = {
    Reached.AIM: "good", Reached.REACH: "good", Reached.MISSED: "bad", Reached.FAILED: "bad",
    Reached.NOT_MEASURED: "none",
}  # fmt: skip


def write(
    results_path: Path, out: Path, docs: Path | None = None, more: Sequence[Path] = (), against: Path | None = None
) -> Path:
    """Writes `report.md`, `report.html` and `img/*.svg` into `out`, and into `docs` (the repository's) `benchmark.md`,
    `benchmark.json` and `img/*.svg`. Returns the HTML page's path. Scenarios that only `more` runs have, or that failed
    here, are added; the figures of the run `against` stand beside those that it has, too.

    Raises OSError, or ValueError if a file holds no results. Each file is replaced as a whole.
    """
    raw = _read(results_path)
    for path in more:
        raw = together(raw, _read(path))
    if against is not None:
        raw = {**raw, AGAINST: compared(_read(against), raw)}
    results = parse(raw)
    plots = draw_all(results)
    page = build(results, plots, raw)
    for plot in plots:
        _put(out / "img" / f"{plot.name}.svg", plot.svg)
    _put(out / "report.md", to_markdown(page, "img"))
    _put(out / "report.html", to_html(page))
    if docs is not None:
        for plot in plots:
            _put(docs / "img" / f"{plot.name}.svg", plot.svg)
        _put(docs / "benchmark.md", to_markdown(page, "img"))
        _put(docs / "benchmark.json", json.dumps(raw, indent=1, allow_nan=False) + "\n")
    return out / "report.html"


def _read(path: Path) -> dict[str, Any]:
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or "meta" not in raw or "scenarios" not in raw:
        raise ValueError(f"{path} holds no results")
    return raw


def together(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The first run, with the scenarios that only the other has, or that failed in the first; its `meta` says which
    those are, and how and when the other was made."""
    sound = [scenario for scenario in first["scenarios"] if scenario["status"] in ("done", "skipped")]
    names = {scenario["name"] for scenario in sound}
    added = [scenario for scenario in other["scenarios"] if scenario["name"] not in names]
    replaced = {scenario["name"] for scenario in added}
    kept = [scenario for scenario in first["scenarios"] if scenario["name"] not in replaced]
    said = {name: other["meta"].get(name) for name in ("command", "started", "complete")}
    note = {"scenarios": [scenario["name"] for scenario in added], **said}
    meta = {**first["meta"], "added": [*first["meta"].get("added", ()), note]}
    return {**first, "meta": meta, "scenarios": [*kept, *added]}


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def headline(results: Results | Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The first row names the columns. Every rival has a row; what was not measured says so in its place."""
    known = results if isinstance(results, Results) else parse(results)
    return [HEAD, *(_headline_row(known, target) for target in HEADLINE)]


def headline_markdown(results: Results | Mapping[str, Any]) -> str:
    head, *rows = headline(results)
    return table_markdown(Table(head, tuple(rows)))


def _headline_row(results: Results, target: str) -> tuple[str, ...]:
    hls = results.row("hls", target=target)
    if not results.rows("crowd", target=target) and not isinstance(hls, NotMeasured):
        return _hls_row(hls, target)
    row = largest_crowd(results, target)
    start = row if isinstance(row, NotMeasured) else number(row, "base_pss")
    costs = (
        _show(start, "bytes"),
        _show(each(target)(results), "bytes"),
        _show(each(target, "https")(results), "bytes"),
        _show(results.get("throughput", "cpu_per_gb", target=target, scheme="http"), "cpu"),
        _show(results.get("throughput", "ratio_to_nginx", target=target, scheme="http"), "times"),
    )
    return (shown(target).title, *costs)


def _hls_row(row: Row, target: str) -> tuple[str, ...]:
    """Of a program that streams HLS alone."""
    base, cost, cpu = (number(row, name) for name in ("base_pss", "each_pss", "cpu_per_gb"))
    costs = (_show(base, "bytes"), _show(noted(cost, "HLS"), "bytes"), "not measured")
    return (shown(target).title, *costs, _show(noted(cpu, "HLS"), "cpu"), "not measured")


def _show(found: Found, unit: Unit) -> str:
    """A cell of a wide table: without the reason unless it is a failure."""
    if isinstance(found, Figure):
        note = f" ({found.note})" if found.note else ""
        return figure(found.value, unit) + note
    if found.failed:
        return found.reason if found.reason.startswith("failed") else f"failed ({found.reason})"
    return "not measured"


# --- The page ------------------------------------------------------------------------------------------------------


def build(results: Results, plots: Sequence[Plot], raw: Mapping[str, Any]) -> Page:
    """The whole report: summary, figures, claims, reasons, how it was measured."""
    judged = {section.key: [judge(claim, results) for claim in section.claims] for section in SECTIONS}
    blocks = (
        *_opening(results, judged),
        *_limits(results),
        *_charts(plots),
        *_servers(results),
        *_claims(judged),
        *_reasons({each.claim.key: each for rows in judged.values() for each in rows}),
        *comparison(raw.get(AGAINST)),
        *everything(results),
        *_method(results),
        Code(json.dumps(raw, indent=1, ensure_ascii=False), folded="Everything that was measured, as JSON"),
    )
    return Page(TITLE, blocks)


def _opening(results: Results, judged: Mapping[str, Sequence[Judged]]) -> Iterator[Block]:
    if not results.complete:
        yield Paragraph(
            f"This run is not complete: {_incomplete(results)}. What is missing is called not measured.", True
        )
    yield Paragraph(
        "ServerPY is a server that turns the address of a page into a stream of the media behind it. Whatever comes "
        "from the source is passed on to the client at once; nothing is stored. This page shows what that costs in "
        "memory and CPU, next to other programs which relayed the same bytes on the same machine, and holds the "
        "figures against those that the project's founding document claims without having measured them."
    )
    yield Heading("Summary")
    yield Bullets(tuple(_summary(results, judged)))
    head, *rows = headline(results)
    yield Table(head, tuple(rows))
    yield Paragraph(
        "“Each further stream” is the memory that one more client adds which reads a 180 MB file at 64 KB a second, as "
        "PSS: memory that processes share is counted once. It does not contain what the kernel holds for a stream: "
        "socket buffers, and for `embedded` and `subprocess` the pipe, at most `QUEUE_CHUNKS` × `CHUNK_BYTES`. "
        "MB is 1,000,000 bytes. What the names stand for:"
    )
    yield Bullets(tuple(f"**{look.title}**: {look.what}" for look in SHOWN.values()))


def _incomplete(results: Results) -> str:
    bad = [f"{s.name} ({s.status}{': ' + s.reason if s.reason else ''})" for s in results.scenarios.values()
           if s.status not in ("done", "skipped")]  # fmt: skip
    return "; ".join(bad) or "it was ended before its end"


def _summary(results: Results, judged: Mapping[str, Sequence[Judged]]) -> Iterator[str]:
    rows = [each for section in judged.values() for each in section]
    counts = {verdict: sum(each.verdict is verdict for each in rows) for verdict in Verdict}
    missed = counts[Verdict.TOO_HIGH] + counts[Verdict.TOO_LOW] + counts[Verdict.WRONG]
    yield (
        f"Of {len(rows)} comparisons with the document, **{counts[Verdict.HELD]} held** and **{missed} did not** "
        f"({counts[Verdict.TOO_HIGH]} claims too high, {counts[Verdict.TOO_LOW]} too low, {counts[Verdict.WRONG]} "
        f"wrong); {counts[Verdict.NOT_MEASURED]} were not measured, {counts[Verdict.FAILED]} failed."
    )
    yield from _compared(results)
    for key, what in (("200-embedded-embedded", "200 people at once, `embedded`"), ("sum-embedded-saved-embedded",
                      "Memory saved against children, 10 at once, `embedded`")):  # fmt: skip
        found = next(each for each in rows if each.claim.key == key)
        yield f"{what}: claimed {found.claim.claimed}, {_measured(found)}."


def _measured(judged: Judged) -> str:
    if isinstance(judged.found, NotMeasured):
        return judged.measured
    return f"measured {judged.measured}: {judged.said}"


def _compared(results: Results) -> Iterator[str]:
    """ServerPY's relay beside the others, in words."""
    ours = each("relay")(results)
    if isinstance(ours, NotMeasured):
        yield f"The memory of a relayed stream was not measured: {ours.reason}."
        return
    beside = []
    for target in ("nginx", "embedded", "seed", "mediaflow", "subprocess"):
        theirs = each(target)(results)
        if isinstance(theirs, Figure) and ours.value > 0:
            beside.append(f"{shown(target).title} {size(theirs.value)} ({digits(theirs.value / ours.value)} × as much)")
    others = f"; beside it {', '.join(beside)}" if beside else ""
    yield f"A further slow client costs **{size(ours.value)}** with ServerPY's `relay`{others}."


def _limits(results: Results) -> Iterator[Block]:
    yield Heading("At the limit")
    yield Paragraph(
        "What the project set out to reach with a relay in Python: the cost of nginx (`proxy_buffering off`), which "
        "does the same in the same run. **Reach** is enough, **aim** is as good as it gets."
    )
    measured = [measure(limit, results) for limit in LIMITS]
    rows = tuple(
        (
            each.limit.what,
            each.limit.bound(each.limit.reach),
            each.limit.bound(each.limit.aim),
            each.said,
            f"`{each.limit.command}`",
            each.verdict.value,
        )
        for each in measured
    )
    head = ("figure", "reach", "aim", "measured", "by", "verdict")
    yield Table(head, rows, tuple(LIMIT_MARKS[each.verdict] for each in measured))


def _charts(plots: Sequence[Plot]) -> Iterator[Block]:
    yield Heading("The figures, drawn")
    if not plots:
        yield Paragraph("Nothing that could be drawn was measured.")
    for plot in plots:
        yield Drawing(plot.name, plot.title, plot.caption, plot.svg)


SERVERS = (
    ("small", "1 GB, 2 cores", "5 to 10 people, 200 to 400 MB"),
    ("medium", "4 GB, 4 cores", "20 to 50 people, 500 to 1200 MB"),
    ("large", "8 GB and more, 8 cores and more", "100 to 200 people, 2 to 4 GB"),
)


def _servers(results: Results) -> Iterator[Block]:
    yield Heading("Which server carries how many")
    yield Paragraph(
        "The document's three recommendations, rewritten with what each profile carried of those that "
        "asked. The limit of `relay` is its memory, that of `embedded` its threads; the verdicts are further down."
    )
    rows = []
    for name, server, claimed in SERVERS:
        row = results.row("profiles", profile=name)
        cells = _server_cells(row)
        rows.append((server, f"`{name}`", claimed, *cells))
    head = ("server", "profile", "claimed", "streams and budget set", "memory before", "`relay` carried", "at its peak",
            "`embedded` carried", "at its peak")  # fmt: skip
    yield Table(head, tuple(rows))


def _server_cells(row: Row | NotMeasured) -> tuple[str, ...]:
    if isinstance(row, NotMeasured):
        reason = _show(row, "bytes")
        return ("", *[reason] * 5)
    budget = number(row, "budget")
    streams = _show(number(row, "streams"), "count")
    settings = f"{streams}, {whole_size(budget.value)}" if isinstance(budget, Figure) else streams
    return (
        settings,
        _show(number(row, "base_pss"), "bytes"),
        _of(row, "carried", "asked"),
        _show(number(row, "peak_pss"), "bytes"),
        _of(row, "embedded_carried", "embedded_asked"),
        _show(number(row, "embedded_peak_pss"), "bytes"),
    )


def _of(row: Row, name: str, asked: str) -> str:
    """How many of those that asked: a run may not have asked for as many as there is room for."""
    found, all_of_them = number(row, name), number(row, asked)
    text = _show(found, "count")
    return f"{text} of {_show(all_of_them, 'count')}" if isinstance(all_of_them, Figure) else text


def _claims(judged: Mapping[str, Sequence[Judged]]) -> Iterator[Block]:
    yield Heading("Claim by claim")
    yield Paragraph(
        "The document compares three ways to stream. **Children**: a yt-dlp process for each request, whose output is "
        "passed on. **Embedded**: yt-dlp loaded once as a library, a thread and a queue for each stream. **Extract "
        "then stream**: yt-dlp only finds the address, and the server itself fetches the media. Each row names what "
        "was measured."
    )
    yield Paragraph(
        "A claim **held** if the measured figure is inside the claimed range, give or take a tenth. **Too high** and "
        "**too low** are said of the claim: too high means that less was measured. Claims without a figure are turned "
        "into a comparison, and **held** or are **wrong**. “About” reaches a quarter to both sides."
    )
    for section in SECTIONS:
        yield Heading(section.title, 3)
        yield Paragraph(f"In the document: {section.source}.")
        yield _claim_table(judged[section.key])
    yield Heading("Where the document contradicts itself", 3)
    yield Paragraph("These need no measurement; not both sides can be right, so that some row above must miss.")
    yield Table(("it says", "it also says"), tuple((pair.here, pair.there) for pair in CONTRADICTIONS))


def _claim_table(rows: Sequence[Judged]) -> Table:
    cells = tuple((_subject(each), each.claim.claimed, each.measured, each.said) for each in rows)
    return Table(("", "claimed", "measured", "verdict"), cells, tuple(MARKS[each.verdict] for each in rows))


def _subject(judged: Judged) -> str:
    return f"{judged.claim.what}: {judged.claim.on}" if judged.claim.on else judged.claim.what


def _reasons(judged: Mapping[str, Judged]) -> Iterator[Block]:
    yield Heading("Why")
    for remark in REMARKS:
        said = say(remark, judged)
        yield Heading(said.title, 3)
        yield Paragraph(said.text)


def _method(results: Results) -> Iterator[Block]:
    meta = results.meta
    yield Heading("How it was measured, and how to repeat it")
    yield Code(str(meta.get("command") or "serverpy bench"))
    yield Paragraph(
        "From a clone, `make bench` installs ServerPY, the rivals and nginx, and runs the same. Everything runs on one "
        "machine: a media site on loopback, one program that relays, and clients which read from it over HTTP. The "
        "memory is that of the relaying program with all its children, read from the kernel (`smaps_rollup`) several "
        "times a second. PSS divides memory that processes share among them, the bench's own Python included, so that "
        "an interpreter alone looks small; RSS counts it again in each. Every byte that "
        "arrives is compared with the original; a client that gets a wrong or short file makes the scenario fail. "
        "A program which is not installed is skipped and called not measured."
    )
    yield Table(("", "this run"), tuple(_facts(meta)))
    states = tuple((scenario.title, scenario.status, seconds(scenario.seconds), scenario.reason or "")
                   for scenario in results.scenarios.values())  # fmt: skip
    if states:
        yield Table(("scenario", "ended", "took", "reason"), states)
    yield from _regression()


def _regression() -> Iterator[Block]:
    yield Heading("Does a change cost more?")
    yield Code("python scripts/regression.py BASE CHANGED --output regression.json")
    yield Paragraph(
        "The script compares two checkouts, each with its own `.venv` (`make install`), under one unchanged set of "
        "loads beside nginx: CPU as a ratio to nginx in the same round, memory as PSS. Five rounds of BASE against "
        "itself show the noise of the machine; five interleaved rounds of BASE and CHANGED follow. A figure is "
        "worse if the median of changed ÷ base exceeds 1 by more than 5 % or the A/A spread, whichever is larger "
        "(at least 25 % for the time to the first byte). Exit status: 0 if no figure is worse, 1 if one is, 2 if "
        "the run failed. Leave the machine idle: a run fails that has not ended after 15 minutes (`--deadline`). "
        "`--quick` tries the script, `--only FIGURE` measures one figure."
    )


def _facts(meta: Row) -> Iterator[tuple[str, str]]:
    machine, versions = meta.get("machine") or {}, meta.get("versions") or {}
    memory = machine.get("memory_bytes")
    yield "started", str(meta.get("started", "unknown"))
    yield "mode", str(meta.get("mode", "unknown"))
    yield "took", seconds(float(meta["seconds"])) if meta.get("seconds") is not None else "unknown"
    yield "complete", "yes" if meta.get("complete") else "no"
    yield "processor", f"{machine.get('cpu', 'unknown')}, {machine.get('cores', '?')} cores"
    yield "memory", size(float(memory)) if memory else "unknown"
    yield "system", f"{machine.get('os', 'unknown')}, kernel {machine.get('kernel', 'unknown')}"
    for name, reason in (meta.get("missing") or {}).items():
        yield f"left out: {name}", str(reason)
    for added in meta.get("added") or ():
        yield f"added: {', '.join(added['scenarios'])}", f"{added['started']}, by {added['command']}"
    for name, version in versions.items():
        yield name, str(version) if version else "not installed"
