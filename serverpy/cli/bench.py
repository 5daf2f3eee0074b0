"""The command `serverpy bench`, which measures the cost of streams on this machine."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serverpy.extras import BENCH

if TYPE_CHECKING:
    from serverpy.bench.measure.run import Order
    from serverpy.bench.measure.scenarios import Mode

DEFAULT_OUT = "bench-results"
WIDTH = 132
"""Width of the headline table, in characters, if stdout is not a terminal."""


def _words(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Split words that are separated by commas or spaces, and drop duplicate words."""
    if value is None:
        return None
    words = tuple(dict.fromkeys(value.replace(",", " ").split()))
    if not words:
        raise click.BadParameter("the list must not be empty.")
    return words


def _counts(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    words = _words(context, option, value)
    if words is None:
        return None
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{value!r} is not a list of positive numbers such as 10,50.")
    return tuple(int(word) for word in words)


HELP = """Measure what streams cost on this machine: memory, CPU and time, for ServerPY's methods and other servers,
with the same media.

The command starts everything that it measures on loopback, and stops it afterwards. Writes results.json, the report and
its plots into the directory --out. Exits with 0 if all was measured, 1 if anything failed, 130 after Ctrl+C.
"""


@click.command("bench", help=HELP)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option(
    "--methods",
    callback=_words,
    metavar="NAME,...",
    help="Methods and servers to measure.  [default: all that can run]",
)
@click.option(
    "--streams",
    callback=_counts,
    metavar="N,...",
    help="Numbers of concurrent clients.  [default: depends on the mode]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Duration of `soak` and `chaos`, in minutes.  [default: depends on the mode]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help="Seed of the random choices of `chaos`, which an earlier run has printed.  [default: a new one]",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_OUT, show_default=True)
@click.option(
    "--quick",
    "mode",
    flag_value="quick",
    help="Run shortened scenarios; all of them together take less than 2 minutes.",
)
@click.option("--full", "mode", flag_value="full", help="Measure every scenario in full, however long it takes.")
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write the page benchmark.md into this documentation directory.",
)
@click.option(
    "--from",
    "earlier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="results.json",
    help="Measure nothing; write the report of an earlier run again from this file.",
)
@click.option(
    "--with",
    "more",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="results.json",
    help="Take scenarios that are missing or failed in the new run from this file of an earlier run.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="results.json",
    help="Show the figures in this file of an earlier run beside those of the new run.",
)
@click.option(
    "--list", "listing", is_flag=True, help="List the scenarios and the servers that can be measured, and exit."
)
def command(
    scenarios: tuple[str, ...],
    methods: tuple[str, ...] | None,
    streams: tuple[int, ...] | None,
    minutes: float | None,
    seed: int | None,
    out: Path,
    mode: Mode | None,
    docs: Path | None,
    earlier: Path | None,
    more: tuple[Path, ...],
    against: Path | None,
    listing: bool,
) -> None:
    BENCH.require("The bench")
    if listing:
        _list()
        return
    if earlier is not None:
        _report(earlier, out, docs, more, against)
        return
    # The modules that measure are heavy. They are imported here, because `--help` does not need them.
    from serverpy.bench.measure.progress import watching
    from serverpy.bench.measure.run import INTERRUPTED, RESULTS, run

    order = replace(_order(scenarios, methods, streams, out, mode or "default"), minutes=minutes, seed=seed)
    with watching() as watcher:
        code = run(order, watcher)
    if code == INTERRUPTED:
        print(f"serverpy: interrupted; the results so far are in {out / RESULTS}", file=sys.stderr)
        sys.exit(code)
    _report(out / RESULTS, out, docs, more, against)
    sys.exit(code)


def _report(results: Path, out: Path, docs: Path | None, more: tuple[Path, ...], against: Path | None) -> None:
    """Write the report, then print its headline table and its path."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from serverpy.bench.report.headline import headline
    from serverpy.bench.report.results import load, parse
    from serverpy.bench.report.write import write

    try:
        path = write(results, out, docs, more, against)
        shown = headline(parse(load(results)))
    except ValueError as error:
        raise click.UsageError(f"The bench cannot make the report: {error}.") from None
    table = Table(*shown.head, box=box.SIMPLE)
    for row in shown.rows:
        if set(row[1:]) != {"not measured"}:
            table.add_row(*row)
    if table.row_count:
        width = None if sys.stdout.isatty() else WIDTH
        Console(highlight=False, markup=False, width=width).print(table)
    print(f"The report: {path}")


def _order(
    names: tuple[str, ...],
    methods: tuple[str, ...] | None,
    streams: tuple[int, ...] | None,
    out: Path,
    mode: Mode,
) -> Order:
    from serverpy.bench.measure.run import Order
    from serverpy.bench.measure.scenarios import SCENARIOS
    from serverpy.bench.measure.targets import TARGETS

    for name in names:
        if name not in SCENARIOS:
            raise click.UsageError(f"{name!r} is not a scenario; choose from {', '.join(SCENARIOS)}.")
    for name in methods or ():
        if name not in TARGETS:
            raise click.UsageError(f"{name!r} is not a method; choose from {', '.join(TARGETS)}.")
    chosen = [
        scenario for scenario in SCENARIOS.values() if (scenario.name in names if names else not scenario.only_named)
    ]
    return Order(chosen, mode, out, methods, streams, shlex.join(["serverpy", *sys.argv[1:]]))


def _list() -> None:
    from serverpy.bench.measure.scenarios import SCENARIOS
    from serverpy.bench.measure.targets import TARGETS

    print("Scenarios:")
    for scenario in SCENARIOS.values():
        print(f"  {scenario.name:<15} {scenario.title}{' (only if named)' if scenario.only_named else ''}")
    print("Methods:")
    for target in TARGETS.values():
        reason = target.missing()
        print(f"  {target.name:<15} {target.title}{f' ({reason})' if reason else ''}")
