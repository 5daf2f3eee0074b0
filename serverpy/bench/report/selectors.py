"""Where a claim's figure is found in the results: functions from results to a figure, and functions which make those.

A finder never raises over what is missing; it returns `NotMeasured` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from serverpy.bench.report.results import (
    Figure,
    Found,
    NotMeasured,
    Results,
    Row,
    combine,
    either,
    minus,
    noted,
    number,
    over,
    plus,
    saved,
    unsound,
)
from serverpy.bench.report.units import MB, MIB

Finder: TypeAlias = Callable[[Results], Found]

EMBEDDED = (("embedded", "ServerPY `embedded`"), ("seed", "the document's own code"))
EXTRACT = (("relay", "ServerPY `relay`"), ("httpx-relay", "extract, then httpx"))
SUBPROCESS = (("subprocess", "ServerPY `subprocess`"),)
STOCK = "one process, stock"


def crowd(target: str, clients: int, name: str) -> Finder:
    """A field of the crowd of slow readers of that size, over http."""
    return lambda results: results.get("crowd", name, target=target, clients=clients, scheme="http")


def crowd_peak(target: str, clients: int) -> Finder:
    """The whole process tree under that many slow readers. Children that were not started in that number are
    extrapolated from the largest number that was, and marked so: each is a process of its own."""

    def find(results: Results) -> Found:
        found = crowd(target, clients, "peak_pss")(results)
        if target != "subprocess" or isinstance(found, Figure) or found.failed:
            return found
        row = largest_crowd(results, target)
        if isinstance(row, NotMeasured):
            return found
        total = combine((number(row, "base_pss"), number(row, "each_pss")), lambda v: v[0] + clients * v[1])
        return noted(total, f"extrapolated from {row['clients']} at once")

    return find


def largest_crowd(results: Results, target: str, scheme: str = "http", most: int | None = None) -> Row | NotMeasured:
    """The soundest row there is for a figure per stream: the largest crowd (of `most` at most) without a failure."""
    rows = results.rows("crowd", target=target, scheme=scheme)
    fit = [row for row in rows if most is None or row["clients"] <= most]
    sound = [row for row in fit if unsound(row) is None]
    if sound:
        return max(sound, key=lambda row: int(row["clients"]))
    reasons = [reason for row in fit if (reason := unsound(row))]
    return reasons[0] if reasons else results.nothing("crowd", target)


def each(target: str, scheme: str = "http", most: int | None = None) -> Finder:
    """What each further slow reader adds, from the largest crowd."""

    def find(results: Results) -> Found:
        row = largest_crowd(results, target, scheme, most)
        if isinstance(row, NotMeasured):
            return row
        return noted(number(row, "each_pss"), f"{row['clients']:,} at once")

    return find


def step(process: str, name: str, field: str = "added") -> Finder:
    return lambda results: results.get("steps", field, process=process, step=name)


def first_request(results: Results) -> Found:
    """What the first request adds to a server that runs: everything after `warmed up`."""
    names = ("first extraction", "a thread", "a hand-over", "a client connection")
    rows = [row for row in results.rows("steps") if row["process"] in ("server", "worker") and row["step"] in names]
    if not rows:
        return results.nothing("steps")
    return plus(*(number(row, "added") for row in rows))


def of(*finders: Finder, using: Callable[[Sequence[float]], float]) -> Finder:
    return lambda results: combine([find(results) for find in finders], using)


def ratio(left: Finder, right: Finder) -> Finder:
    return lambda results: over(left(results), right(results))


def less_than(left: Finder, right: Finder) -> Finder:
    return lambda results: saved(left(results), right(results))


def difference(left: Finder, right: Finder) -> Finder:
    return lambda results: minus(left(results), right(results))


def first_of(first: Finder, second: Finder) -> Finder:
    return lambda results: either(first(results), second(results))


def nowhere(reason: str) -> Finder:
    """For what the document says and no figure answers."""
    return lambda results: NotMeasured(reason)


def base(target: str) -> Finder:
    """The whole tree after its first request, with nobody connected."""

    def find(results: Results) -> Found:
        row = largest_crowd(results, target)
        return row if isinstance(row, NotMeasured) else number(row, "base_pss")

    return find


def with_first(target: str) -> Finder:
    """The whole tree while its first request runs: the base and one further stream."""
    return lambda results: noted(plus(base(target)(results), each(target)(results)), "")


def hundred(target: str, name: str) -> Finder:
    """A field of the clip requests, one after the other."""

    def find(results: Results) -> Found:
        rows = [row for row in results.rows("sequential", target=target) if row["media_bytes"] >= MB]
        if not rows:
            return results.nothing("sequential", target)
        found = number(rows[0], name)
        requests = int(rows[0]["requests"])
        return found if requests == 100 else noted(found, f"{requests} requests")

    return find


def hundred_of(name: str) -> Callable[[str], Finder]:
    return lambda target: hundred(target, name)


def workers(count: int) -> Finder:
    return lambda results: results.get("workers", "peak_pss", max_workers=count)


def latency(target: str, state: str = "cold", name: str = "first_byte_p50") -> Finder:
    """One request after the other, where the run also had several in flight."""

    def find(results: Results) -> Found:
        rows = results.rows("latency", target=target, state=state)
        if not rows:
            return results.nothing("latency", target)
        return number(min(rows, key=lambda row: int(row.get("in_flight") or 1)), name)

    return find


def rate(target: str, state: str) -> Finder:
    return lambda results: results.get("rate", "requests_per_second", target=target, state=state)


def cell(queue: int, chunk: int, name: str = "held") -> Finder:
    """A field of one cell of queue × chunk. `held` is the process's memory and the pipe's, which is the kernel's."""

    def find(results: Results) -> Found:
        row = results.row("hand-over", queue_chunks=queue, chunk_bytes=chunk)
        if isinstance(row, NotMeasured):
            return row
        return plus(number(row, "each_pss"), number(row, "pipe_bytes")) if name == "held" else number(row, name)

    return find


def over_time(target: str, using: Callable[[Row], Found]) -> Finder:
    """From the memory of one target over time."""

    def find(results: Results) -> Found:
        lines = results.series("over-time", target=target)
        if not lines:
            return results.nothing("over-time", target)
        if len(lines[0]["pss"]) < 3:
            return NotMeasured("too few readings")
        return using(lines[0])

    return find


def top(line: Row) -> Found:
    return Figure(float(max(line["pss"])), f"{max(line['clients'])} clients" if line.get("clients") else "")


def last(line: Row) -> Found:
    return Figure(float(line["pss"][-1]))


def left_behind(line: Row) -> Found:
    """Which part of what the load added is still there at the end."""
    start, peak, end = float(line["pss"][0]), float(max(line["pss"])), float(line["pss"][-1])
    return over(Figure(end - start), Figure(peak - start))


def creep(line: Row) -> Found:
    """By which part memory grew from the first to the last third of the time in which all clients were there."""
    most = max(line["clients"])
    held = [float(pss) for pss, clients in zip(line["pss"], line["clients"], strict=True) if clients == most]
    third = len(held) // 3
    if not third:
        return NotMeasured("the plateau was too short")
    early, late = sum(held[:third]) / third, sum(held[-third:]) / third
    return over(Figure(late - early), Figure(early))


def profile(name: str, field: str) -> Finder:
    """At as many readers as the note says."""

    def find(results: Results) -> Found:
        row = results.row("profiles", profile=name)
        if isinstance(row, NotMeasured):
            return row
        return noted(number(row, field), f"{row['carried']:,} streams")

    return find


def carried(name: str, field: str, asked: str, least: float) -> Finder:
    """How many a profile carried. Where all who asked were carried, and fewer asked than were claimed, the run has not
    found the limit."""

    def find(results: Results) -> Found:
        row = results.row("profiles", profile=name)
        if isinstance(row, NotMeasured):
            return row
        found, all_of_them = number(row, field), row.get(asked)
        if isinstance(found, NotMeasured) or all_of_them is None or found.value < all_of_them:
            return found
        if found.value < least:
            return NotMeasured(f"only {all_of_them:,} asked, and all were carried")
        return noted(found, "all that asked")

    return find


def collected(field: str) -> Finder:
    """A field with collecting after each stream, in units of the same without."""
    return ratio(
        lambda results: results.get("collect", field, gc_after_stream=True),
        lambda results: results.get("collect", field, gc_after_stream=False),
    )


def extraction(kind: str, name: str) -> Finder:
    return lambda results: results.get("extraction", name, kind=kind)


def child_pipe(results: Results) -> Found:
    """The kernel's memory, not the process's: there if the bench asked the kernel."""
    row = largest_crowd(results, "subprocess")
    if isinstance(row, NotMeasured) or row.get("pipe_bytes") is None:
        return NotMeasured("the kernel's memory, outside every process")
    return number(row, "pipe_bytes")


def threads_left(target: str) -> Finder:
    return difference(hundred(target, "threads_after"), hundred(target, "threads_before"))


def beyond_queue(results: Results) -> Found:
    bounds = [(row, row["queue_chunks"] * row["chunk_bytes"]) for row in results.rows("hand-over")]
    cells = [
        over(plus(number(row, "each_pss"), number(row, "pipe_bytes")), Figure(b)) for row, b in bounds if b >= 5 * MIB
    ]
    return combine(cells, max) if cells else results.nothing("hand-over")
