"""The founding document's claims as data: where each stands, what it says, how its figure is found, how it is judged.

The rule, one for all: a claim is a range. The figure measured by the bench, on the scenario that the claim is about,
is inside it (widened by a tenth on both sides, since two runs differ by that much): the claim *held*. It is below:
the claim was *too high*; above: *too low*. A claim without a figure of its own ("X needs less than Y") is written as
the ratio that it amounts to, and is *held* or *wrong*. No figure, no verdict: *not measured*, with the reason.

A row of the tables is a claim and what it was measured on: ServerPY's method of that name, and where it was installed
the shape of code that the document describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from serverpy.bench.report.results import (
    Found,
    NotMeasured,
    Results,
    Row,
    combine,
    number,
    over,
)
from serverpy.bench.report.selectors import (
    EMBEDDED,
    EXTRACT,
    STOCK,
    SUBPROCESS,
    Finder,
    base,
    beyond_queue,
    carried,
    cell,
    child_pipe,
    collected,
    creep,
    crowd,
    crowd_peak,
    difference,
    each,
    extraction,
    first_of,
    first_request,
    hundred,
    hundred_of,
    last,
    latency,
    left_behind,
    less_than,
    nowhere,
    of,
    over_time,
    profile,
    rate,
    ratio,
    step,
    threads_left,
    top,
    with_first,
    workers,
)
from serverpy.bench.report.units import GB, KB, MB, MIB, Unit, digits, figure, span

TOLERANCE = 0.10
"""Two runs of the bench differ by less than this in memory; no verdict may hang on it."""
ABOUT = 0.25
"""How far from X a claim of "about X" reaches on both sides."""


class Verdict(Enum):
    """What became of a claim; the value is how it is said."""

    HELD = "held"
    TOO_HIGH = "too high"
    TOO_LOW = "too low"
    WRONG = "wrong"
    NOT_MEASURED = "not measured"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`low` and `high` in the base unit, either open, which with `about` surround the one figure that was given; `says`
    replaces the range in words, and then the verdict is yes or no. `on` is what it was measured on."""

    key: str
    what: str
    find: Finder
    unit: Unit
    low: float | None = None
    high: float | None = None
    about: bool = False
    says: str = ""
    on: str = ""

    @property
    def claimed(self) -> str:
        if self.about and not self.says and self.low is not None and self.high is not None:
            return f"about {figure((self.low + self.high) / 2, self.unit)}"
        return self.says or span(self.low, self.high, self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim beside what was measured."""

    claim: Claim
    found: Found
    verdict: Verdict

    @property
    def measured(self) -> str:
        """The figure with its unit and note; else "not measured" and why. Never a number that is not one."""
        if isinstance(self.found, NotMeasured):
            return f"not measured ({self.found.reason})"
        note = f" ({self.found.note})" if self.found.note else ""
        return figure(self.found.value, self.claim.unit) + note

    @property
    def said(self) -> str:
        """The verdict, and by how much a figure was missed."""
        factor = self._factor()
        return f"{digits(factor)} times {self.verdict.value}" if factor else self.verdict.value

    def _factor(self) -> float | None:
        """None where a factor says nothing: beside nought, beyond nought, or for parts of a whole."""
        if isinstance(self.found, NotMeasured) or self.claim.unit == "share" or self.found.value <= 0:
            return None
        if self.verdict is Verdict.TOO_HIGH and self.claim.low:
            return self.claim.low / self.found.value
        if self.verdict is Verdict.TOO_LOW and self.claim.high:
            return self.found.value / self.claim.high
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table or chart of the document. `source` is its heading there."""

    key: str
    title: str
    source: str
    claims: tuple[Claim, ...]


def judge(claim: Claim, results: Results) -> Judged:
    found = claim.find(results)
    return Judged(claim=claim, found=found, verdict=verdict(claim, found))


def verdict(claim: Claim, found: Found) -> Verdict:
    """The rule of the module's docstring."""
    if isinstance(found, NotMeasured):
        return Verdict.FAILED if found.failed else Verdict.NOT_MEASURED
    if claim.low is not None and found.value < claim.low - abs(claim.low) * TOLERANCE:
        return Verdict.WRONG if claim.says else Verdict.TOO_HIGH
    if claim.high is not None and found.value > claim.high + abs(claim.high) * TOLERANCE:
        return Verdict.WRONG if claim.says else Verdict.TOO_LOW
    return Verdict.HELD


# --- The claims ----------------------------------------------------------------------------------------------------


def _per_target(
    key: str, what: str, targets: Iterable[tuple[str, str]], find: Callable[[str], Finder], unit: Unit,
    low: float | None = None, high: float | None = None, about: bool = False, says: str = "",
) -> tuple[Claim, ...]:  # fmt: skip
    return tuple(
        Claim(key=f"{key}-{target}", what=what, find=find(target), unit=unit, low=low, high=high, about=about,
              says=says, on=title)
        for target, title in targets
    )  # fmt: skip


def _one(
    key: str, what: str, find: Finder, unit: Unit,
    low: float | None = None, high: float | None = None, about: bool = False, says: str = "", on: str = "",
) -> tuple[Claim, ...]:  # fmt: skip
    claim = Claim(key=key, what=what, find=find, unit=unit, low=low, high=high, about=about, says=says, on=on)
    return (claim,)


def _about(value: float) -> tuple[float, float, bool]:
    """The last three of a claim's bounds: low, high, about."""
    return value * (1 - ABOUT), value * (1 + ABOUT), True


def _saved_at(clients: int) -> Callable[[str], Finder]:
    return lambda target: less_than(crowd_peak(target, clients), crowd_peak("subprocess", clients))


def _executive() -> Section:
    return Section(
        key="executive",
        title="The three methods at a glance",
        source="Executive Summary",
        claims=(
            *_per_target("sum-child-each", "a request, in a child", SUBPROCESS, each, "bytes", 80 * MB, 110 * MB),
            *_one("sum-first", "the first request, embedded", first_request, "bytes", 55 * MB, 75 * MB,
                  on="ServerPY `embedded`"),
            *_per_target("sum-next", "each next request, embedded", EMBEDDED, each, "bytes", 15 * MB, 35 * MB),
            *_per_target("sum-extract-each", "a request, extract then stream", EXTRACT, each, "bytes", 50 * MB,
                         75 * MB),
            *_per_target("sum-child-10", "10 at once, in children", SUBPROCESS, lambda t: crowd_peak(t, 10), "bytes",
                         800 * MB, 1100 * MB),
            *_per_target("sum-embedded-10", "10 at once, embedded", EMBEDDED, lambda t: crowd_peak(t, 10), "bytes",
                         175 * MB, 395 * MB),
            *_per_target("sum-extract-10", "10 at once, extract then stream", EXTRACT, lambda t: crowd_peak(t, 10),
                         "bytes", 500 * MB, 750 * MB),
            *_per_target("sum-embedded-saved", "less memory than children, embedded", EMBEDDED, _saved_at(10), "share",
                         0.60, 0.70),
            *_per_target("sum-extract-saved", "less memory than children, extract then stream", EXTRACT, _saved_at(10),
                         "share", 0.30, 0.45),
        ),
    )  # fmt: skip


def _child() -> Section:
    interpreter, library = step("worker", "interpreter", "pss"), step("worker", "yt-dlp imported")
    rest = of(each("subprocess"), interpreter, library, using=lambda v: v[0] - v[1] - v[2])
    return Section(
        key="child",
        title="What a child process costs",
        source="Method 1: Subprocess Approach",
        claims=(
            *_one("child-parent", "the parent process", step("server", "server running", "pss"), "bytes",
                  *_about(10 * MB),
                  on="ServerPY's serving process, once"),
            *_one("child-interpreter", "Python in the child", interpreter, "bytes", *_about(30 * MB),
                  on="a Python process that does nothing"),
            *_one("child-library", "loading yt-dlp", library, "bytes", *_about(40 * MB),
                  on="a Python process that imports it"),
            *_one("child-buffer", "its buffers while it works", rest, "bytes", 10 * MB, 30 * MB,
                  on="the rest of a child, after the two rows above"),
            *_one("child-pipe", "the pipe's buffer", child_pipe, "bytes", 1 * MB, 5 * MB, on="ServerPY `subprocess`"),
            *_one("child-total", "a request in all", each("subprocess"), "bytes", 80 * MB, 110 * MB,
                  on="ServerPY `subprocess`"),
            *_one("child-10", "10 at once", crowd_peak("subprocess", 10), "bytes", 800 * MB, 1100 * MB,
                  on="ServerPY `subprocess`"),
            *_one("child-sharing", "nothing is shared between requests",
                  ratio(each("subprocess"), step("worker", "yt-dlp imported", "pss")), "share", 0.9,
                  says="a child costs what a whole process does",
                  on="memory of a child ÷ of a lone process that imports yt-dlp"),
            *_one("child-spawn", "starting the process", difference(latency("subprocess"), latency("embedded")),
                  "seconds", *_about(0.5), on="first byte later than `embedded`'s, both cold"),
            *_one("child-cpu", "CPU for creating processes", ratio(extraction("child", "cpu"), extraction("slim",
                  "cpu")),
                  "times", 2.0, says="high", on="CPU of an extraction in a child ÷ in ServerPY's worker"),
        ),
    )  # fmt: skip


def _embedded() -> Section:
    served = of(step("server", "server running", "pss"), step("worker", "warmed up", "pss"), using=sum)
    return Section(
        key="embedded",
        title="What embedding costs",
        source="Method 2: Embedded yt-dlp",
        claims=(
            *_one("emb-interpreter", "Python", step("server", "interpreter", "pss"), "bytes", 30 * MB, 50 * MB,
                  on="ServerPY's serving process"),
            *_one("emb-framework", "FastAPI", step("server", "framework"), "bytes", 20 * MB, 30 * MB,
                  on="ServerPY's serving process"),
            *_one("emb-library", "yt-dlp", step("worker", "yt-dlp imported"), "bytes", *_about(40 * MB),
                  on="ServerPY's worker"),
            *_one("emb-library-stock", "yt-dlp", step(STOCK, "yt-dlp imported"), "bytes", *_about(40 * MB),
                  on="beside FastAPI, in one process"),
            *_one("emb-base", "all of it, before a request", served, "bytes", 90 * MB, 120 * MB,
                  on="ServerPY, server and worker"),
            *_one("emb-base-seed", "all of it, after a request", base("seed"), "bytes", 90 * MB, 120 * MB,
                  on="the document's own code"),
            *_one("emb-thread", "a thread", step("worker", "a thread"), "bytes", 10 * MB, 15 * MB,
                  on="ServerPY's worker"),
            *_one("emb-thread-stock", "a thread", step(STOCK, "a thread"), "bytes", 10 * MB, 15 * MB,
                  on="the document's own code"),
            *_one("emb-queue", "the queue's buffer", first_of(step("worker", "a hand-over"), step("server",
                  "a hand-over")),
                  "bytes", 1 * MB, 20 * MB, on="ServerPY's hand-over"),
            *_one("emb-client", "an HTTP client", each("relay"), "bytes", 5 * MB, 10 * MB,
                  on="a whole `relay` stream: both connections and all else"),
            *_per_target("emb-first", "the process during the first request", EMBEDDED,
                         with_first, "bytes", 105 * MB, 165 * MB),
            *_per_target("emb-next", "each further request", EMBEDDED, each, "bytes", 15 * MB, 35 * MB),
            *_per_target("emb-10", "10 at once", EMBEDDED, lambda t: crowd_peak(t, 10), "bytes", 340 * MB, 370 * MB),
            *_per_target("emb-average", "average of each of the 10", EMBEDDED, lambda t: crowd(t, 10, "each_pss"),
                         "bytes",
                         *_about(25 * MB)),
            *_one("emb-shared", "yt-dlp is loaded once", crowd("embedded", 50, "processes"), "count", None, 2.0,
                  says="no process more for more requests", on="processes of ServerPY under 50 readers, two at start"),
            *_per_target("emb-pool", "threads are reused", EMBEDDED, threads_left, "count", None, 50.0,
                         says="no thread is left per request"),
            *_one("emb-bounded", "memory is bounded by the queue", beyond_queue, "times", None, 1.0,
                  says="at most queue × chunk", on="ServerPY: held ÷ (queue × chunk), worst cell of 5 MiB and more"),
            *_per_target("emb-latency", "time to the first byte", EMBEDDED, latency, "seconds", *_about(0.5)),
        ),
    )  # fmt: skip


def _extract() -> Section:
    return Section(
        key="extract",
        title="What extracting and then streaming costs",
        source="Method 3: Extract→Stream (httpx)",
        claims=(
            *_per_target("ext-base", "the process, shared", EXTRACT, base, "bytes", 90 * MB, 120 * MB),
            *_one("ext-thread", "a thread for the extraction", step("worker", "a thread"), "bytes", 10 * MB, 15 * MB,
                  on="ServerPY's worker"),
            *_per_target("ext-client", "the HTTP client", EXTRACT, each, "bytes", 5 * MB, 10 * MB),
            *_per_target("ext-buffer", "the streaming buffer", EXTRACT, each, "bytes", 8 * KB, 1 * MB),
            *_per_target("ext-first", "the process during the first request", EXTRACT,
                         with_first, "bytes", 105 * MB, 145 * MB),
            *_per_target("ext-10", "10 at once", EXTRACT, lambda t: crowd_peak(t, 10), "bytes", 490 * MB, 520 * MB),
            *_per_target("ext-average", "average of each of the 10", EXTRACT, lambda t: crowd(t, 10, "each_pss"),
                         "bytes",
                         *_about(40 * MB)),
            *_per_target("ext-saved", "less memory than children", EXTRACT, _saved_at(10), "share", 0.30, 0.45),
            *_one("ext-processes", "no process more", crowd("relay", 50, "processes"), "count", None, 2.0,
                  says="no process more for more requests", on="processes of ServerPY under 50 readers, two at start"),
            *_one("ext-session", "address or session may differ between extraction and stream",
                  nowhere("not a figure; `relay` uses the extraction's own session"), "count", says="may differ",
                  on="ServerPY `relay`"),
            *_one("ext-expiry", "the address may expire before the stream",
                  nowhere("not a figure; `relay` extracts anew and goes on"), "count", says="may expire",
                  on="ServerPY `relay`"),
        ),
    )  # fmt: skip


Range: TypeAlias = tuple[float, float]
TRAFFIC: tuple[tuple[int, Range, Range, Range, Range], ...] = (
    (10, (800 * MB, 1.1 * GB), (340 * MB, 370 * MB), (490 * MB, 520 * MB), (0.55, 0.65)),
    (50, (4 * GB, 5.5 * GB), (1.2 * GB, 1.8 * GB), (2.0 * GB, 2.5 * GB), (0.65, 0.75)),
    (200, (16 * GB, 22 * GB), (4.8 * GB, 7.0 * GB), (8.0 * GB, 10.0 * GB), (0.65, 0.75)),
)
"""Clients at once; the whole process with children, embedded, extract then stream; what embedding saves."""


def _traffic(clients: int, child: Range, embedded: Range, extract: Range, spared: Range) -> Section:
    names = {10: "Low", 50: "Medium", 200: "High"}
    peak: Callable[[str], Finder] = lambda target: crowd_peak(target, clients)  # noqa: E731 - a column of the table
    at = f"at {clients}"
    return Section(
        key=f"traffic-{clients}",
        title=f"{clients} people at once",
        source=f"{names[clients]} Traffic ({clients} concurrent users)",
        claims=(
            *_per_target(f"{clients}-child", f"children, {at}", SUBPROCESS, peak, "bytes", *child),
            *_per_target(f"{clients}-embedded", f"embedded, {at}", EMBEDDED, peak, "bytes", *embedded),
            *_per_target(f"{clients}-extract", f"extract then stream, {at}", EXTRACT, peak, "bytes", *extract),
            *_per_target(f"{clients}-saved", f"embedded needs less than children, {at}", EMBEDDED, _saved_at(clients),
                         "share", *spared, about=True),
            *_one(f"{clients}-winner", f"the winner, {at}", ratio(peak("embedded"), peak("relay")), "times", None, 0.9,
                  says="embedded, ahead of extract then stream", on="ServerPY: `embedded` ÷ `relay`"),
            *(_crash() if clients == 200 else ()),
        ),
    )  # fmt: skip


def _crash() -> tuple[Claim, ...]:
    def share(results: Results) -> Found:
        memory = number(results.meta.get("machine") or {}, "memory_bytes")
        return over(crowd_peak("subprocess", 200)(results), memory)

    return _one("200-crash", "children at 200 run out of memory", share, "share", 1.0, says="crash", on="this machine")


def _over_time() -> Section:
    def both(key: str, what: str, using: Callable[[Row], Found], unit: Unit, **more: object) -> tuple[Claim, ...]:
        return _per_target(key, what, EMBEDDED, lambda t: over_time(t, using), unit, **more)  # type: ignore[arg-type]

    child = "ServerPY `subprocess`"
    return Section(
        key="over-time",
        title="Memory over two minutes",
        source="Memory Over Time",
        claims=(
            *_one("time-child-peak", "children: the peak", over_time("subprocess", top), "bytes", *_about(12 * GB),
                  on=child),
            *_one("time-child-left", "children: at the end", over_time("subprocess", last), "bytes", *_about(4 * GB),
                  on=child),
            *_one("time-child-cleanup", "children: no clean-up", over_time("subprocess", left_behind), "share", 0.25,
                  says="about a third stays", on=child),
            *_one("time-child-zombies", "children: zombies pile up", hundred("subprocess", "zombies"), "count", 1.0,
                  says="zombies", on=child),
            *both("time-plateau", "embedded: the plateau", top, "bytes", low=0.75 * GB, high=1.25 * GB, about=True),
            *both("time-stable", "embedded: stable once warm", creep, "share", high=0.05,
                  says="no growth on the plateau"),
            *both("time-released", "embedded: given back at the end", left_behind, "share", high=0.1, says="all of it"),
        ),
    )  # fmt: skip


def _sequential() -> Section:
    address_space = nowhere("address space; costs no memory")
    child = "subprocess"
    rows: list[Claim] = []
    claimed = (
        ("before", "RSS before", "rss_before", 50, 150),
        ("peak", "RSS at the peak", "rss_peak", 1200, 450),
        ("after", "RSS after", "rss_after", 180, 160),
    )
    for key, what, name, in_child, embedded in claimed:
        rows += _per_target(f"seq-{key}", f"children: {what}", SUBPROCESS, hundred_of(name), "bytes",
                            *_about(in_child * MB))  # fmt: skip
        rows += _per_target(f"seq-{key}", f"embedded: {what}", EMBEDDED, hundred_of(name), "bytes",
                            *_about(embedded * MB))  # fmt: skip
    for key, low, high in (("before", 4.5, 0.5), ("peak", 8.2, 0.8), ("after", 5.1, 0.52)):
        rows += _one(f"seq-vms-{key}-child", f"children: VMS, {key}", address_space, "bytes", low * GB, low * GB)
        rows += _one(f"seq-vms-{key}-embedded", f"embedded: VMS, {key}", address_space, "bytes", high * GB, high * GB)
    return Section(
        key="sequential",
        title="A hundred requests, one after the other",
        source="Memory Profiling Results",
        claims=(
            *rows,
            *_one("seq-processes", "children: processes at once", hundred(child, "processes_peak"), "count",
                  *_about(12),
                  on="ServerPY `subprocess`"),
            *_per_target("seq-threads", "embedded: threads at once", EMBEDDED, hundred_of("threads_peak"),
                         "count", *_about(12)),
            *_per_target("seq-zombies", "children: zombies left", SUBPROCESS, hundred_of("zombies"), "count",
                         3, 3),
            *_per_target("seq-zombies", "embedded: zombie threads left", EMBEDDED, hundred_of("zombies"),
                         "count", 0, 0),
            *_per_target("seq-growth", "children: growth", SUBPROCESS, hundred_of("growth"), "bytes",
                         *_about(130 * MB)),
            *_per_target("seq-growth", "embedded: growth", EMBEDDED, hundred_of("growth"), "bytes",
                         None, 10 * MB),
            *_per_target("seq-stable", "embedded is 96 % more stable", EMBEDDED,
                         lambda t: ratio(hundred(t, "growth"), hundred("subprocess", "growth")), "times", None, 0.04,
                         says="its growth is a twenty-fifth of the children's"),
        ),
    )  # fmt: skip


SMALL_CHUNK, USUAL_CHUNK, LARGE_CHUNK = 8 * 1024, 64 * 1024, MIB
QUEUES: tuple[tuple[int, float, float], ...] = ((5, 40, 5), (10, 80, 10), (20, 160, 20), (50, 400, 50))
"""Places; KB at chunks of 8 KB; MB at chunks of 1 MB."""


def _queue() -> Section:
    held: list[Claim] = []
    for queue, small, large in QUEUES:
        held += _one(f"queue-{queue}-small", f"queue of {queue}, chunks of 8 KB", cell(queue, SMALL_CHUNK), "bytes",
                     *_about(small * KB), on="ServerPY `embedded`, pipe included")  # fmt: skip
        held += _one(f"queue-{queue}-large", f"queue of {queue}, chunks of 1 MB", cell(queue, LARGE_CHUNK), "bytes",
                     *_about(large * MB), on="ServerPY `embedded`, pipe included")  # fmt: skip
    first, speed = "first_byte", "throughput"
    return Section(
        key="queue",
        title="The size of the queue",
        source="Queue Buffer Analysis",
        claims=(
            *held,
            *_one("queue-latency", "a queue of 50 answers sooner than one of 5",
                  ratio(cell(50, USUAL_CHUNK, first), cell(5, USUAL_CHUNK, first)), "times", None, 0.8,
                  says="very low latency against low", on="first byte at 50 ÷ at 5, chunks of 64 KiB"),
            *_one("queue-speed", "a queue of 20 is faster than one of 10",
                  ratio(cell(20, USUAL_CHUNK, speed), cell(10, USUAL_CHUNK, speed)), "times", 1.2,
                  says="high throughput", on="throughput at 20 ÷ at 10, chunks of 64 KiB"),
            *_one("queue-best", "20 is the best balance",
                  ratio(cell(20, USUAL_CHUNK, speed), cell(5, USUAL_CHUNK, speed)), "times", 1.2,
                  says="optimal: worth four times the memory of 5", on="throughput at 20 ÷ at 5, chunks of 64 KiB"),
        ),
    )  # fmt: skip


def _tuning() -> Section:
    def limited(name: str) -> Finder:
        return ratio(
            lambda results: results.get("overload", name, limited=True),
            lambda results: results.get("overload", name, limited=False),
        )

    pools = ((10, 300 * MB), (20, 500 * MB), (50, 1200 * MB))
    threads = [
        claim
        for count, claimed in pools
        for claim in _one(f"workers-{count}", f"MAX_WORKERS = {count}",
                          workers(count), "bytes",
                          *_about(claimed), on="ServerPY `embedded`, all workers busy")
    ]  # fmt: skip
    return Section(
        key="tuning",
        title="Ways to need less",
        source="Optimization Strategies",
        claims=(
            *threads,
            *_one("gc-memory", "collecting garbage after each request saves",
                  lambda results: combine([collected("after_pss")(results)], lambda v: 1 - v[0]), "share", 0.05, 0.10,
                  on="ServerPY, memory after the load"),
            *_one("gc-cpu", "collecting costs little CPU", collected("cpu_per_request"), "times", None, 1.1,
                  says="slight",
                  on="CPU of a request with ÷ without"),
            *_one("limit", "a limit on concurrent streams holds memory down", limited("peak_pss"), "times", None, 0.9,
                  says="less memory under overload", on="ServerPY: peak with the limit ÷ without"),
        ),
    )  # fmt: skip


def _servers() -> Section:
    claimed = (
        ("small", "1 GB", (5, 10), (200 * MB, 400 * MB)),
        ("medium", "4 GB", (20, 50), (500 * MB, 1200 * MB)),
        ("large", "8 GB", (100, 200), (2 * GB, 4 * GB)),
    )
    rows: list[Claim] = []
    for name, memory, users, needs in claimed:
        what = f"server with {memory}"
        on = f"profile `{name}`"
        relayed = carried(name, "carried", "asked", users[0])
        embedded = carried(name, "embedded_carried", "embedded_asked", users[0])
        rows += _one(f"{name}-users", f"{what}: people at once", relayed, "count", *users,
                     on=f"{on}, `relay`")  # fmt: skip
        rows += _one(f"{name}-embedded", f"{what}: people at once", embedded, "count", *users,
                     on=f"{on}, `embedded`")  # fmt: skip
        rows += _one(f"{name}-memory", f"{what}: memory", profile(name, "peak_pss"), "bytes", *needs,
                     on=f"{on}, whole process")  # fmt: skip
    return Section(
        key="servers", title="What a server carries", source="Production Recommendations", claims=tuple(rows)
    )


def _conclusion() -> Section:
    return Section(
        key="conclusion",
        title="The conclusions",
        source="Conclusion",
        claims=(
            *_per_target("end-saved", "embedded needs less memory than children", EMBEDDED, _saved_at(10), "share",
                         0.60, 0.70),
            *_per_target("end-latency", "first byte, embedded", EMBEDDED, latency, "seconds", *_about(0.5)),
            *_per_target("end-latency-child", "first byte, children", SUBPROCESS, latency, "seconds", *_about(1.0)),
            *_per_target("end-rate", "requests a second, embedded", EMBEDDED, lambda t: rate(t, "cold"), "per second",
                         10, 15),
            *_per_target("end-rate-child", "requests a second, children", SUBPROCESS, lambda t: rate(t, "cold"),
                         "per second", 5, 8),
            *_per_target("end-zombies", "embedded: zombies", EMBEDDED, hundred_of("zombies"), "count", 0, 0,
                         says="none"),
            *_per_target("end-leaks", "embedded: memory leaks", EMBEDDED, hundred_of("growth"), "bytes",
                         None, 10 * MB, says="none (growth of 10 MB at most)"),
            *_per_target("end-200", "embedded: 200 people at once", EMBEDDED, lambda t: crowd(t, 200, "complete"),
                         "count", 200, says="200 and more, all served"),
            *_one("end-horizontal", "more machines", nowhere("not a figure; the bench drives one machine"), "count",
                  says="ready for horizontal scaling"),
            *_one("end-method", "embedded for all streaming", ratio(each("embedded"), each("relay")), "times", None,
                  0.9,
                  says="embedded with threads, never anything else", on="memory of a stream, `embedded` ÷ `relay`"),
        ),
    )  # fmt: skip


SECTIONS: tuple[Section, ...] = (
    _executive(),
    _child(),
    _embedded(),
    _extract(),
    *(_traffic(*row) for row in TRAFFIC),
    _over_time(),
    _sequential(),
    _queue(),
    _tuning(),
    _servers(),
    _conclusion(),
)
"""Every table, chart and claim of the document, in its order."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two places of the document that cannot both be right, by arithmetic alone."""

    here: str
    there: str


CONTRADICTIONS: tuple[Contradiction, ...] = (
    Contradiction(
        "10 at once, embedded, take 175 to 395 MB (Executive Summary).",
        "The same take 340 to 370 MB (Method 2, Low Traffic).",
    ),
    Contradiction(
        "The first embedded request takes 55 to 75 MB (Executive Summary).",
        "It adds a thread, a queue and a client, 16 to 45 MB, to a base of 90 to 120 MB (Method 2).",
    ),
    Contradiction(
        "Extract→Stream averages 40 MB for each of 10 requests, and loses to embedded with 25 MB.",
        "Its own parts, a thread for the extraction, a client and a buffer, sum to 15 to 26 MB; embedded has the same "
        "and a queue of up to 20 MB on top.",
    ),
    Contradiction(
        "200 people, embedded, take 4.8 to 7.0 GB (High Traffic).",
        "100 to 200 people take 2 to 4 GB (Large Server).",
    ),
    Contradiction(
        "Embedded uses 60 to 70 % less than children.",
        "The tables' own figures, 340 to 370 MB against 800 to 1,100 MB, are 54 to 69 %.",
    ),
    Contradiction(
        "Embedded is 96 % more stable.",
        "It is derived from growth of 10 MB against 130 MB, which is 92 %.",
    ),
    Contradiction(
        "The profile was taken with 100 sequential requests.",
        "It reports 12 concurrent processes and 12 threads, and 1,200 MB, which one request at a time cannot need.",
    ),
    Contradiction(
        "The chart over time shows children at 12 GB and the embedded server at 1 GB, side by side.",
        "12 GB are some 130 children at 80 to 110 MB each; as many requests, embedded, would be 2 GB at least.",
    ),
)
