"""What the project wants to reach, as data: each figure with the bound that is enough and the one that is aimed at, how
it is found in the results, and the command that measures it.

The bounds are nginx's cost of the same relay, or follow from it; all are upper bounds but where `at_least` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from serverpy.bench.report.results import Figure, Found, NotMeasured, Results, Row, combine, minus, noted, number, over
from serverpy.bench.report.selectors import Finder, crowd, extraction
from serverpy.bench.report.units import MB, Unit, digits, figure


class Reached(Enum):
    """What became of a limit; the value is how it is said."""

    AIM = "aim met"
    REACH = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """`reach` is enough, `aim` is better; either may be missing."""

    what: str
    find: Finder
    unit: Unit
    reach: float | None
    aim: float | None
    command: str
    at_least: bool = False

    def keeps(self, value: float, bound: float | None) -> bool:
        if bound is None:
            return False
        return value >= bound if self.at_least else value <= bound

    def bound(self, value: float | None) -> str:
        if value is None:
            return "–"
        # As it was set: two digits would make 1.2 of 1.25.
        exact = f"{value:g} ×" if self.unit == "times" else figure(value, self.unit)
        return f"{'≥' if self.at_least else '≤'} {exact}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A limit beside what was measured."""

    limit: Limit
    found: Found
    verdict: Reached

    @property
    def said(self) -> str:
        """The figure with its unit and note; else why there is none."""
        if isinstance(self.found, NotMeasured):
            return f"not measured ({self.found.reason})"
        note = f" ({self.found.note})" if self.found.note else ""
        return figure(self.found.value, self.limit.unit) + note


def measure(limit: Limit, results: Results) -> Measured:
    found = limit.find(results)
    if isinstance(found, NotMeasured):
        return Measured(limit, found, Reached.FAILED if found.failed else Reached.NOT_MEASURED)
    if limit.keeps(found.value, limit.aim):
        return Measured(limit, found, Reached.AIM)
    reached = limit.keeps(found.value, limit.reach)
    return Measured(limit, found, Reached.REACH if reached else Reached.MISSED)


# --- Where the figures are -----------------------------------------------------------------------------------------


def beside_nginx(found: Found, nginx: Found) -> Found:
    """The figure, with its ratio to nginx's in the same run as a note."""
    ratio = over(found, nginx)
    return noted(found, f"{digits(ratio.value)} × nginx") if isinstance(ratio, Figure) else found


def each(target: str, clients: int, scheme: str) -> Finder:
    """The memory of each further slow stream, in a crowd of that size."""

    def find(results: Results) -> Found:
        ours, nginx = (
            results.get("crowd", "each_pss", target=name, clients=clients, scheme=scheme) for name in (target, "nginx")
        )
        return beside_nginx(ours, nginx)

    return find


def on_top(clients: int) -> Finder:
    """What that many relayed streams add to a server that has none."""
    peak, base = crowd("relay", clients, "peak_pss"), crowd("relay", clients, "base_pss")
    return lambda results: minus(peak(results), base(results))


def tree(state: str) -> Finder:
    return lambda results: results.get("idle", "pss", state=state)


def cpu_ratio(scheme: str) -> Finder:
    return lambda results: results.get("throughput", "ratio_to_nginx", target="relay", scheme=scheme)


def over_origin(in_flight: int, name: str) -> Finder:
    """The first byte of a cached page, over the origin's own to as many who ask at once."""

    def find(results: Results) -> Found:
        row = results.row("latency", target="relay", state="cached", in_flight=in_flight)
        return row if isinstance(row, NotMeasured) else minus(number(row, name), number(row, f"origin_{name}"))

    return find


def per_core(results: Results) -> Found:
    return results.get("rate", "requests_per_cpu_second", target="relay", state="cached")


def saturated(*names: str) -> Finder:
    """The largest of these fields while extractions saturate."""

    def find(results: Results) -> Found:
        row = results.row("saturation", target="relay", extracting=True)
        if isinstance(row, NotMeasured):
            return row
        return noted(combine([number(row, name) for name in names], max), _window(row, names))

    return find


def _window(row: Row, names: Sequence[str]) -> str:
    """The server's meter tells of its last minute; a shorter watch shares it with what was before."""
    seconds = float(row["seconds"])
    if not any(name.startswith("lag") for name in names) or seconds >= 60:
        return ""
    return f"{digits(seconds)} s of the {digits(float(row.get('lag_seconds') or 60))} s that the meter has"


MIXED_REQUESTS = 10_000


def left(name: str) -> Finder:
    """A field of the mixed requests; a note where they were fewer than the limit speaks of."""

    def find(results: Results) -> Found:
        row = results.row("mixed", target="relay")
        if isinstance(row, NotMeasured):
            return row
        return noted(number(row, name), _fewer(row))

    return find


def _fewer(row: Row) -> str:
    return "" if row["requests"] >= MIXED_REQUESTS else f"{row['requests']:,} requests"


def things_left(results: Results) -> Found:
    """Threads, descriptors, processes and zombies that were not there before."""
    row = results.row("mixed", target="relay")
    if isinstance(row, NotMeasured):
        return row
    total = float(row["zombies"])
    for name in ("threads", "fds", "processes"):
        total += max(0, row[f"{name}_after"] - row[f"{name}_before"])
    return Figure(total, _fewer(row))


def promised(target: str, limit: bool) -> Finder:
    """Which part of what the budget allows was taken at most."""

    def find(results: Results) -> Found:
        rows = [row for row in results.rows("promise", target=target) if bool(row.get("limit")) is limit]
        if not rows:
            return results.nothing("promise", target)
        row = rows[0]
        if row["wrong"] or row["failed"]:
            return NotMeasured(f"failed: {row['wrong']} got wrong bytes, {row['failed']} failed", failed=True)
        taken = over(
            minus(number(row, "highest_pss"), number(row, "base_pss")),
            minus(number(row, "allowed_pss"), number(row, "base_pss")),
        )
        return noted(taken, f"{row['served']:,} of {row['clients']:,} served, {row['refused']:,} told to come again")

    return find


LIMITS: tuple[Limit, ...] = (
    *(
        Limit(
            what=f"each further slow stream, {scheme} source, {clients:,} clients",
            find=each("relay", clients, scheme),
            unit="bytes",
            reach=reach * MB,
            aim=aim * MB,
            command="serverpy bench crowd --methods relay,nginx",
        )
        for scheme, reach, aim in (("http", 0.2, 0.1), ("https", 0.3, 0.18))
        for clients in (200, 1000)
    ),
    Limit(
        what="the same, `embedded`, http source, 200 clients",
        find=each("embedded", 200, "http"),
        unit="bytes",
        reach=1.5 * MB,
        aim=1 * MB,
        command="serverpy bench crowd --methods embedded,nginx",
    ),
    Limit(
        what="server and worker after start and first extraction",
        find=tree("first extraction"),
        unit="bytes",
        reach=110 * MB,
        aim=90 * MB,
        command="serverpy bench idle",
    ),
    Limit(
        what="the same, once idle",
        find=tree("worker let go"),
        unit="bytes",
        reach=None,
        aim=50 * MB,
        command="serverpy bench idle",
    ),
    *(
        Limit(
            what=f"{clients:,} relayed streams on top of that",
            find=on_top(clients),
            unit="bytes",
            reach=reach * MB,
            aim=aim * MB,
            command="serverpy bench crowd --methods relay",
        )
        for clients, reach, aim in ((10, 5, 3), (50, 14, 9), (200, 50, 32), (1000, 250, 150))
    ),
    *(
        Limit(
            what=f"CPU for each GB, {scheme} source, against nginx",
            find=cpu_ratio(scheme),
            unit="times",
            reach=reach,
            aim=aim,
            command="serverpy bench throughput --methods relay,nginx",
        )
        for scheme, reach, aim in (("http", 1.3, 1.1), ("https", 1.6, 1.25))
    ),
    Limit(
        what="first byte over the origin's own, cached, one at a time, median",
        find=over_origin(1, "first_byte_p50"),
        unit="seconds",
        reach=0.010,
        aim=0.003,
        command="serverpy bench latency --methods relay",
    ),
    Limit(
        what="the same, 50 in flight, 99th percentile",
        find=over_origin(50, "first_byte_p99"),
        unit="seconds",
        reach=0.150,
        aim=0.060,
        command="serverpy bench latency --methods relay",
    ),
    Limit(
        what="requests for each second of server CPU, 64 KB, cached",
        find=per_core,
        unit="count",
        reach=800,
        aim=2000,
        at_least=True,
        command="serverpy bench rate --methods relay",
    ),
    Limit(
        what="CPU of an extraction",
        find=extraction("slim", "cpu"),
        unit="seconds",
        reach=0.030,
        aim=0.020,
        command="serverpy bench extraction",
    ),
    Limit(
        what="lag of the event loop while extractions saturate, 99th percentile",
        find=saturated("lag_p99"),
        unit="seconds",
        reach=0.030,
        aim=0.015,
        command="serverpy bench saturation",
    ),
    Limit(
        what="longest stall of a stream meanwhile",
        find=saturated("longest_stall", "longest_silence"),
        unit="seconds",
        reach=0.250,
        aim=None,
        command="serverpy bench saturation",
    ),
    Limit(
        what="growth after 10,000 mixed requests (RSS)",
        find=left("growth_rss"),
        unit="bytes",
        reach=5 * MB,
        aim=3 * MB,
        command="serverpy bench mixed",
    ),
    Limit(
        what="threads, descriptors, processes and zombies left by them",
        find=things_left,
        unit="count",
        reach=0,
        aim=0,
        command="serverpy bench mixed",
    ),
    *(
        Limit(
            what=f"part of the budget and a tenth that `{target}` takes under 2,000 clients{' in less memory' * limit}",
            find=promised(target, limit),
            unit="share",
            reach=1.0,
            aim=None,
            command="serverpy bench promise",
        )
        for target in ("relay", "embedded")
        for limit in (False, True)
    ),
)
