"""The content of the bench report: summary, limits, charts, claims, all measured figures, and the method. A missing
figure is never shown as a number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serverpy.bench.report.canvas import Chart
from serverpy.bench.report.claims import CONTRADICTIONS, SECTIONS, Judged, Verdict, claim_on, judge
from serverpy.bench.report.compare import AGAINST, comparison
from serverpy.bench.report.headline import headline, show
from serverpy.bench.report.limits import LIMITS, Reached, bound, measure
from serverpy.bench.report.page import Block, Bullets, Code, Drawing, Heading, Page, Paragraph, Table
from serverpy.bench.report.raw_tables import everything
from serverpy.bench.report.results import Figure, NotMeasured, Results, Row, number
from serverpy.bench.report.selectors import find
from serverpy.bench.report.styles import STYLES, style_of
from serverpy.bench.report.units import digits, seconds, size, whole_size

MISSED = (Verdict.TOO_HIGH, Verdict.TOO_LOW, Verdict.WRONG)
GOOD = (Verdict.HELD, Reached.AIM, Reached.REACH)
UNKNOWN = (Verdict.NOT_MEASURED, Reached.NOT_MEASURED)


def build(results: Results, charts: Sequence[Chart], raw: Mapping[str, Any]) -> Page:
    """Build the report page. `raw` is the JSON from which `results` were parsed."""
    blocks = (
        *_opening(results),
        *_limits(results),
        *_charts(charts),
        *_servers(results),
        *_claims(results),
        *comparison(raw.get(AGAINST)),
        *everything(results),
        *_method(results),
        Code(json.dumps(raw, indent=1, ensure_ascii=False), folded="All measured figures, as JSON"),
    )
    return Page("What streaming costs, measured", blocks)


def _opening(results: Results) -> Iterator[Block]:
    if not results.complete:
        bad = [f"{s.name} ({s.status}{f': {s.reason}' if s.reason else ''})" for s in results.failed]
        why = "; ".join(bad) or "it was interrupted"
        yield Paragraph(f"This run is not complete: {why}. Missing figures are marked “not measured”.", warning=True)
    yield Paragraph(
        "ServerPY is a server that turns the address of a page into a stream of the media behind it. The server passes "
        "on to the client whatever comes from the source, and stores nothing. This page shows what that costs in "
        "memory and CPU, next to other programs that relayed the same bytes on the same machine, and compares the "
        "figures with those that the project's founding document claims without having measured them."
    )
    yield Heading("Summary")
    yield Bullets(tuple(_summary(results)))
    yield headline(results)
    yield Paragraph(
        "“Each further stream” is the memory (PSS) that one more client adds if it reads a 180 MB file at 64 KB per "
        "second. PSS counts memory that processes share only once. The figure does not include what the kernel holds "
        "for a stream: socket buffers, and for `embedded` and `subprocess` the pipe, at most `QUEUE_CHUNKS` × "
        "`CHUNK_BYTES`. MB is 1,000,000 bytes. The names mean:"
    )
    yield Bullets(tuple(f"**{style.title}**: {style.what}" for style in STYLES.values()))


def _summary(results: Results) -> Iterator[str]:
    counts = Counter(judge(claim, results).verdict for section in SECTIONS for claim in section.claims)
    yield (
        f"Of {counts.total()} comparisons with the document, **{counts[Verdict.HELD]} held** and "
        f"**{sum(counts[each] for each in MISSED)} did not** ({counts[Verdict.TOO_HIGH]} claims too high, "
        f"{counts[Verdict.TOO_LOW]} too low, {counts[Verdict.WRONG]} wrong); {counts[Verdict.NOT_MEASURED]} were not "
        f"measured, {counts[Verdict.FAILED]} failed."
    )
    yield _beside_others(results)
    for what, title in (
        ("embedded, at 200", "200 people at once, `embedded`"),
        ("less memory than children, embedded", "Memory saved compared with children, 10 at once, `embedded`"),
    ):
        judged = judge(claim_on(what, "embedded"), results)
        known = isinstance(judged.found, Figure)
        yield f"{title}: claimed {judged.claim.claimed}, " + (
            f"measured {judged.measured}: {judged.said}." if known else f"{judged.measured}."
        )


def _beside_others(results: Results) -> str:
    """Return a sentence that compares the memory of a stream with ServerPY's relay and with the other measured
    servers."""
    cost = "crowd(target, max, http)[each_pss]"
    ours = find(cost, results, "relay")
    if isinstance(ours, NotMeasured):
        return f"The memory of a relayed stream was not measured: {ours.reason}."
    beside = []
    for target in ("nginx", "embedded", "seed", "mediaflow", "subprocess"):
        theirs = find(cost, results, target)
        if isinstance(theirs, Figure) and ours.value > 0:
            times = digits(theirs.value / ours.value)
            beside.append(f"{style_of(target).title} {size(theirs.value)} ({times} × as much)")
    others = f"; for comparison, {', '.join(beside)}" if beside else ""
    return f"A further slow client costs **{size(ours.value)}** with ServerPY's `relay`{others}."


def _limits(results: Results) -> Iterator[Block]:
    yield Heading("At the limit")
    yield Paragraph(
        "The project's limits for a relay in Python, derived from the cost of nginx (`proxy_buffering off`), which "
        "relays the same bytes in the same run. **Reach** is good enough, **aim** is the goal."
    )
    measured = [measure(limit, results) for limit in LIMITS]
    rows = tuple(
        (m.limit.what, bound(m.limit.reach), bound(m.limit.aim), m.said, f"`{m.limit.command}`", m.verdict.value)
        for m in measured
    )
    head = ("figure", "reach", "aim", "measured", "command", "verdict")
    yield Table(head, rows, tuple(_mark(each.verdict) for each in measured))


def _mark(verdict: Verdict | Reached) -> str:
    return "good" if verdict in GOOD else "none" if verdict in UNKNOWN else "bad"


def _charts(charts: Sequence[Chart]) -> Iterator[Block]:
    yield Heading("Charts")
    if not charts:
        yield Paragraph("No figures were measured that a chart could show.")
    for chart in charts:
        yield Drawing(chart.name, chart.title, chart.caption, chart.svg)


SERVERS = (
    ("small", "1 GB, 2 cores", "5 to 10 people, 200 to 400 MB"),
    ("medium", "4 GB, 4 cores", "20 to 50 people, 500 to 1200 MB"),
    ("large", "8 GB and more, 8 cores and more", "100 to 200 people, 2 to 4 GB"),
)


def _servers(results: Results) -> Iterator[Block]:
    yield Heading("How many clients a server can serve")
    yield Paragraph(
        "The document's three recommendations, with the number of clients that each profile served, of those that "
        "connected. `relay` is limited by its memory, `embedded` by its threads; the verdicts are further down."
    )
    head = ("server", "profile", "claimed", "streams and budget", "memory before", "`relay` served", "peak memory",
            "`embedded` served", "peak memory")  # fmt: skip
    rows = ((server, f"`{name}`", claimed, *_server_cells(results.row("profiles", profile=name)))
            for name, server, claimed in SERVERS)  # fmt: skip
    yield Table(head, tuple(rows))


def _server_cells(row: Row | NotMeasured) -> tuple[str, ...]:
    if isinstance(row, NotMeasured):
        return ("", *[show(row, "bytes")] * 5)
    budget = number(row, "budget")
    streams = show(number(row, "streams"), "count")
    return (
        f"{streams}, {whole_size(budget.value)}" if isinstance(budget, Figure) else streams,
        show(number(row, "base_pss"), "bytes"),
        _of(row, "carried", "asked"),
        show(number(row, "peak_pss"), "bytes"),
        _of(row, "embedded_carried", "embedded_asked"),
        show(number(row, "embedded_peak_pss"), "bytes"),
    )


def _of(row: Row, name: str, asked: str) -> str:
    """Return how many clients were served and how many were connected. The number of connected clients may be below the
    profile's limit."""
    text, all_of_them = show(number(row, name), "count"), number(row, asked)
    return f"{text} of {show(all_of_them, 'count')}" if isinstance(all_of_them, Figure) else text


def _claims(results: Results) -> Iterator[Block]:
    yield Heading("Claim by claim")
    yield Paragraph(
        "The document compares three ways to stream. **Children**: a yt-dlp process for each request, whose output is "
        "passed on. **Embedded**: yt-dlp loaded once as a library, a thread and a queue for each stream. **Extract "
        "then stream**: yt-dlp only finds the address, and the server itself fetches the media. Each row names what "
        "was measured."
    )
    yield Paragraph(
        "A claim **held** if the measured figure is inside the claimed range, give or take a tenth. **Too high** and "
        "**too low** describe the claim: too high means that the measured figure is lower. A claim without a figure is "
        "turned into a comparison, which **held** or was **wrong**. “About” allows a quarter to both sides."
    )
    for section in SECTIONS:
        judged = [judge(claim, results) for claim in section.claims]
        yield Heading(section.title, 3)
        yield Paragraph(f"In the document: {section.source}. {_outcome(judged)}")
        yield _claim_table(judged)
    yield Heading("Where the document contradicts itself", 3)
    yield Paragraph(
        "These need no measurement: two such statements cannot both be right, so one claim above must miss."
    )
    yield Table(("it says", "it also says"), tuple((pair.here, pair.there) for pair in CONTRADICTIONS))


def _outcome(judged: Sequence[Judged]) -> str:
    """Return a sentence that states, for each verdict, how many claims of a section have it, and the largest factor by
    which a measured figure is outside of the range of such a claim."""
    counts = Counter(each.verdict for each in judged)
    parts = []
    for verdict in Verdict:
        factors = [each.factor for each in judged if each.verdict is verdict and each.factor]
        worst = f" (up to {digits(max(factors))} times)" if factors else ""
        if counts[verdict]:
            parts.append(f"{counts[verdict]} {verdict.value}{worst}")
    return f"Of {len(judged)} comparisons: {', '.join(parts)}."


def _claim_table(rows: Sequence[Judged]) -> Table:
    cells = tuple((_subject(each), each.claim.claimed, each.measured, each.said) for each in rows)
    return Table(("", "claimed", "measured", "verdict"), cells, tuple(_mark(each.verdict) for each in rows))


def _subject(judged: Judged) -> str:
    return f"{judged.claim.what}: {judged.claim.on}" if judged.claim.on else judged.claim.what


def _method(results: Results) -> Iterator[Block]:
    yield Heading("How it was measured, and how to repeat it")
    yield Code(str(results.meta.get("command") or "serverpy bench"))
    yield Paragraph(
        "In a clone, `make bench` installs ServerPY, the rivals and nginx, and runs the same. Everything runs on one "
        "machine: a media site on loopback, one program that relays, and clients that read from it over HTTP. The "
        "memory is that of the relaying program with all its children, read from the kernel (`smaps_rollup`) several "
        "times a second. PSS divides memory that processes share among them, the bench's own Python included, so an "
        "interpreter alone looks small; RSS counts shared memory in full in each process. Every byte that arrives is "
        "compared with the original; a client that gets a wrong or short file makes the scenario fail. A program that "
        "is not installed is skipped and marked “not measured”."
    )
    yield Table(("", "this run"), tuple(_facts(results.meta)))
    states = tuple((scenario.title, scenario.status, seconds(scenario.seconds), scenario.reason or "")
                   for scenario in results.scenarios.values())  # fmt: skip
    if states:
        yield Table(("scenario", "status", "time", "reason"), states)
    yield from _regression()
    yield from _trouble()


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


def _trouble() -> Iterator[Block]:
    yield Heading("Does trouble harm anybody?")
    yield Code(
        "serverpy bench chaos --minutes 10 --out chaos-results\n"
        "serverpy bench hostile --out hostile-results\n"
        "serverpy bench callbacks --out callbacks-results"
    )
    yield Paragraph(
        "Three scenarios measure harm instead of cost. They run only if they are named, because they keep the machine "
        "busy; all need only the extra `serverpy[bench]`, and none uses the internet."
    )
    yield Bullets(
        (
            "**chaos**: 200 clients (`--streams N`) send random requests by `relay`, weave, `embedded` and "
            "`subprocess` for ten minutes (`--minutes N`; `--quick`: one). Media servers fail in the ways of the "
            "fault matrix; clients read, leave, stop reading or seek; workers and children are killed and stopped. "
            "Twelve of the clients read honest streams. The title of the run has its seed, and `--seed N` repeats its "
            "choices. A warm-up comes first (15 % of the time, a minute at most); afterwards the clients have 160 "
            "seconds to finish their last request, and the server has 90 to come to rest. The announced duration "
            "contains all of that, and most runs end two or three minutes earlier. "
            "It fails if a client gets wrong bytes, a short body that looks complete, silence, no answer, no end or "
            "an undocumented error, if an honest stream by `relay` or weave is cut, or if streams, bytes of the "
            "budget, processes, zombies, descriptors or memory are left afterwards.",
            "**hostile**: six attacks, one after the other, each beside 20 or 30 honest users for 30 seconds "
            "(`--quick`: 5, `--full`: 60): thousands of header fields, media servers with fat heads, clients that "
            "drip, pages that drip, a page that holds the interpreter lock, and names that nobody answers for (only "
            "with the permission to make mount namespaces). The attacker has another address than the users, and "
            "asks for pages of another host. An attack fails if an honest stream is cut or refused, if the first byte "
            "comes more than a second later than before the attack (95th percentile, of cached and of new pages), or "
            "if the memory (PSS) of the server with its processes exceeds 1.1 × its base + `MEMORY_BUDGET`.",
            "**callbacks**: the CPU time of each callback of the event loop, while the server gets the largest inputs "
            "that its bounds allow (pages, cookies, playlists, manifests, moov, sidx, compressed bodies, keys, heads), "
            "in three starts of the server (`--quick`: one, and smaller MP4s; `--full`: five). It fails if a callback "
            "takes more than 20 ms in every start; a longer time in only some starts counts as a delay of the machine. "
            "The server runs on asyncio's event loop, because the callbacks of uvloop cannot be measured, "
            "so the figures do not include the work of uvloop itself between callbacks.",
        )
    )
    yield Paragraph(
        "All write all figures into `results.json` and the report in the directory `--out`: `chaos` one row (requests "
        "by end, method and code, harm of each kind, signals, memory before, at most and after), `hostile` a row for "
        "each attack, `callbacks` a row for each input with its longest callback. "
        "The report states the reason of each failure, and the command then exits with 1. The figures of a run "
        "of each are in `docs/reliability.md`."
    )


def _facts(meta: Row) -> Iterator[tuple[str, str]]:
    machine, memory = meta.get("machine") or {}, (meta.get("machine") or {}).get("memory_bytes")
    yield "started", str(meta.get("started", "unknown"))
    yield "mode", str(meta.get("mode", "unknown"))
    yield "duration", seconds(float(meta["seconds"])) if meta.get("seconds") is not None else "unknown"
    yield "complete", "yes" if meta.get("complete") else "no"
    yield "processor", f"{machine.get('cpu', 'unknown')}, {machine.get('cores', '?')} cores"
    yield "memory", size(float(memory)) if memory else "unknown"
    yield "system", f"{machine.get('os', 'unknown')}, kernel {machine.get('kernel', 'unknown')}"
    for name, reason in (meta.get("missing") or {}).items():
        yield f"left out: {name}", str(reason)
    for added in meta.get("added") or ():
        yield f"added: {', '.join(added['scenarios'])}", f"{added['started']}, by {added['command']}"
    for name, version in (meta.get("versions") or {}).items():
        yield name, str(version) if version else "not installed"
