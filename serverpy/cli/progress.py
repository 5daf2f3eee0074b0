"""The progress display of `get`: bars and lines for a person, lines for a log, and messages for a parent process.
All output for a person goes to stderr, because `get` may write media to stdout.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from serverpy.cli.jobs import (
    Began,
    Done,
    Event,
    Failed,
    Job,
    Listed,
    Moved,
    OutputClosed,
    Present,
    Reading,
    Watcher,
)
from serverpy.cli.terminal import READING, one_line, size

NAME_COLUMNS = 40


class Report(msgspec.Struct, frozen=True):
    """One line of output from a child process (`--isolate`): an event of a job, or a line of text."""

    url: str = ""
    item: int | None = None
    event: Event | None = None
    said: str = ""


class Lines:
    """Progress display with one line for each file that is complete, that already existed, or that failed."""

    def see(self, job: Job, event: Event) -> None:
        line = line_of(job, event)
        if line is not None:
            self.say(line)

    def say(self, line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)


class SizeColumn(ProgressColumn):
    """Column with the number of downloaded bytes, and with the total if the media server reports it. The column is
    empty while the page is being extracted."""

    def render(self, task: Task) -> Text:
        if task.total is not None:
            return Text(f"{size(task.completed)} of {size(task.total)}")
        return Text(size(task.completed) if task.completed else "")


class RateColumn(ProgressColumn):
    """Column with the download speed in bytes per second, in the units of the other columns."""

    def render(self, task: Task) -> Text:
        return Text(f"{size(task.speed)}/s" if task.speed else "")


class Bars:
    """Progress display like `Lines`, with a progress bar below the lines for each file in progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[tuple[int, ...], str, int | None], TaskID] = {}

    def see(self, job: Job, event: Event) -> None:
        if isinstance(event, Moved):
            self._progress.update(self._bars[job.key], completed=event.done)
            return
        self._drop(job)
        if isinstance(event, Reading):
            self._bars[job.key] = self._progress.add_task(READING, total=None)
        elif isinstance(event, Began):
            self._bars[job.key] = self._progress.add_task(
                _shortened(event.name), total=event.total, completed=event.start
            )
        elif line := line_of(job, event):
            self.say(line)

    def say(self, line: str) -> None:
        self._progress.console.print(Text(one_line(line)), soft_wrap=True)

    def _drop(self, job: Job) -> None:
        bar = self._bars.pop(job.key, None)
        if bar is not None:
            self._progress.remove_task(bar)


class Reports:
    """Progress reports of a child process for its parent: one JSON object per line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def see(self, job: Job, event: Event) -> None:
        self._send(Report(job.url, job.item, event))

    def say(self, line: str) -> None:
        self._send(Report(said=line))

    def _send(self, report: Report) -> None:
        line = memoryview(msgspec.json.encode(report) + b"\n")
        # If the parent is gone, this process's stdin is closed as well, and that ends this process.
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._descriptor, line) :]


class Tally:
    """A watcher that passes events on to another watcher, counts the failures, and notes whether the reader of stdout
    closed the pipe."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.failed = 0
        self.output_closed = False

    def see(self, job: Job, event: Event) -> None:
        self.failed += isinstance(event, Failed)
        self.output_closed |= isinstance(event, OutputClosed)
        self._watcher.see(job, event)

    def say(self, line: str) -> None:
        self._watcher.say(line)


class LogLines(logging.Handler):
    """Log handler that shows log records as lines of the progress display, so that they do not overwrite its bars."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:
        self._watcher.say(f"serverpy: {record.levelname.lower()}: {record.getMessage()}")
        if record.exc_info:
            for line in "".join(traceback.format_exception(*record.exc_info)).splitlines():
                self._watcher.say(line)


@contextlib.contextmanager
def watching(report_descriptor: int | None) -> Iterator[Watcher]:
    """Yield a progress display: messages to the `serverpy` process that started this one, if there is such a process,
    bars if stderr is a terminal, otherwise lines."""
    if report_descriptor is not None:
        yield Reports(report_descriptor)
    elif sys.stderr.isatty():
        with make_progress(Console(stderr=True, highlight=False)) as progress:
            yield Bars(progress)
    else:
        yield Lines()


@contextlib.contextmanager
def logging_to(watcher: Watcher, level: str) -> Iterator[None]:
    """Send log records of `level` and above to `watcher` while the block runs."""
    root = logging.getLogger()
    handler, before = LogLines(watcher), root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


def line_of(job: Job, event: Event) -> str | None:
    match event:
        case Done(name, count, resumed):
            since = f" (resumed after {size(resumed)})" if resumed else ""
            return f"{name}: done, {size(count)}{since}"
        case Present(name):
            return f"{name}: already downloaded"
        case Failed(code, reason):
            item = "" if job.item is None else f" item {job.item}"
            return f"serverpy: {job.url}{item}: {reason} [{code}]"
        case Reading() | Listed() | Began() | Moved() | OutputClosed():
            return None


def make_progress(console: Console) -> Progress:
    """Make the progress display with name, bytes, speed and remaining time. It removes its bars at the end."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        SizeColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


def _shortened(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= NAME_COLUMNS else f"{name[: NAME_COLUMNS - 1]}…"
