"""The command `serverpy get`, which downloads the media of pages to files or stdout. The engine runs in this process,
or in a child process for each page (`--isolate`)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from serverpy.api.query import PAGE, StreamQuery, invalid_parameter
from serverpy.cli.isolate import Isolated, end_with_parent, url_from_parent
from serverpy.cli.jobs import Announced, Job, Reading, Watcher, run_all
from serverpy.cli.options import EngineCommand, engine_options
from serverpy.cli.outputs import Standard
from serverpy.cli.partial import Folder
from serverpy.cli.progress import Tally, logging_to, watching
from serverpy.cli.standard import OUTPUT_CLOSED
from serverpy.cli.terminal import page_url, run
from serverpy.containers import TARGETS
from serverpy.errors import ConfigurationError
from serverpy.settings import Settings, load_settings

MAX_JOBS = 64
LIMITS = ("height", "codec", "lang", "max_size")
"""The parameters of `/stream` that limit the default choice, which are options of `get`, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The parsed command line. `folder` is None for stdout. `limits` are those of `LIMITS` that are given. In a child
    process of `get --isolate`, `report` is the descriptor to which the child writes its reports, and `since` is the
    time at which the parent began, in seconds since the epoch."""

    urls: tuple[str, ...]
    folder: Path | None
    format: str | None
    to: str
    limits: dict[str, Any]
    item: int | None
    jobs: int
    force: bool
    isolate: bool
    report: int | None
    since: float


def _known_target(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if value not in TARGETS:
        raise click.BadParameter(f"{value!r} is not an output format; choose from {', '.join(TARGETS)}.")
    return value


def _folder(_context: click.Context, _option: click.Parameter, value: str) -> Path | None:
    if value == "-":
        return None
    path = Path(value).expanduser()
    if path.exists() and not path.is_dir():
        raise click.BadParameter(f"{value!r} is not a directory.")
    return path


def _checked(limits: dict[str, Any]) -> dict[str, Any]:
    """Return those of `limits` that are not None, as `/stream` parses them. Raises `click.BadParameter` if a value is
    invalid."""
    given = {name: value for name, value in limits.items() if value is not None}
    try:
        query = StreamQuery.model_validate({"url": PAGE, **given})
    except ValidationError as error:
        name, _, reason = str(invalid_parameter(error)).partition(": ")
        raise click.BadParameter(reason, param_hint=f"--{name.strip('`').replace('_', '-')}") from None
    return {name: getattr(query, name) for name in given}


HELP = """Download the media of each page URL. @FILE reads URLs from a file, - from stdin, one per line; empty lines and
lines that begin with # are ignored.

An interrupted download leaves NAME.part, and the same command resumes it. Exits with 0 if all is done, 1 if
anything failed, 2 for wrong usage, 130 after Ctrl+C, 141 if stdout was closed.
"""


@click.command("get", help=HELP, cls=EngineCommand)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option(
    "-o",
    "--output",
    callback=_folder,
    default=".",
    metavar="DIR|-",
    help="Directory for the files, created if missing; - means stdout.  [default: .]",
)
@click.option("-f", "--format", help="yt-dlp format selector, or a format's id from `serverpy info`.")
@click.option(
    "--to", callback=_known_target, default="source", help="Format to convert the media to.  [default: source]"
)
@click.option(
    "--height", help="Without -f: maximum height in pixels (of the shorter side), or max.  [default: DEFAULT_HEIGHT]"
)
@click.option(
    "--codec",
    help="Without -f: preferred video codec at equal height: h264, vp9, av1, hevc or any.  [default: DEFAULT_CODEC]",
)
@click.option("--lang", help="Without -f: language of the audio, as a BCP 47 tag.  [default: the original language]")
@click.option(
    "--max-size", help="Without -f: maximum size, such as 50MB; the best format that is known to fit is chosen."
)
@click.option(
    "--item",
    type=click.IntRange(1),
    help="Only this item of a playlist or image post, or part of a video.  [default: all]",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, MAX_JOBS),
    default=1,
    show_default=True,
    help="Number of concurrent downloads.",
)
@click.option("--isolate", is_flag=True, help="Download each page in a child process.")
@click.option("--force", is_flag=True, help="Download files again from the start, even if they exist.")
@click.option("--report", type=click.IntRange(1, 2), hidden=True)
@click.option("--since", type=float, hidden=True)
@engine_options
def command(urls: tuple[str, ...], output: Path | None, **options: Any) -> None:
    own = {name: options.pop(name) for name in ("format", "to", "item", "jobs", "isolate", "force", "report", "since")}
    own["limits"] = _checked({name: options.pop(name) for name in LIMITS})
    is_child = own["report"] is not None
    own["since"] = time.time() if own["since"] is None else own["since"]
    own["jobs"] = own["jobs"] if output is not None else 1  # only one download at a time can be written to stdout
    pages = (url_from_parent(),) if is_child else tuple(dict.fromkeys(expand(urls)))
    order = Order(urls=pages, folder=output, **own)
    settings = load_settings(**options)
    sys.exit(run(lambda: get(order, adapted(settings, order.jobs))))


def expand(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the URLs that the arguments name. A file or stdin with URLs is replaced by the URLs in it. Raises
    `click.UsageError` if an argument is not a URL, or if a file cannot be read. An invalid line in a file is not an
    error here: only the job for that line fails later."""
    for argument in arguments:
        if argument == "-":
            yield from _listed(sys.stdin.read())
        elif argument.startswith("@"):
            try:
                yield from _listed(Path(argument[1:]).expanduser().read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise click.UsageError(f"{argument[1:]} cannot be read: {reason}.") from None
        else:
            yield page_url(argument)


def _listed(text: str) -> Iterator[str]:
    lines = (line.strip() for line in text.splitlines())
    return (line for line in lines if line and not line.startswith("#"))


def adapted(settings: Settings, jobs: int) -> Settings:
    """Return settings in which the limits on concurrent streams are at least `jobs`, so that no job waits for another.
    Unless LOG_LEVEL is set, only warnings and errors are logged."""
    changes: dict[str, Any] = {
        name: max(getattr(settings, name), jobs) for name in ("max_streams", "max_workers", "max_children")
    }
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "warning"
    return settings.model_copy(update=changes)


async def get(order: Order, settings: Settings) -> int:
    """Run the downloads. Returns the exit status."""
    jobs = [Job((place,), url, order.item) for place, url in enumerate(order.urls)]
    with watching(order.report) as watcher, logging_to(watcher, settings.log_level):
        tally = Tally(watcher)
        for job in jobs[: order.jobs]:
            tally.see(job, Reading())
        try:
            await (_get_isolated if order.isolate else _get_here)(jobs, order, settings, tally)
        except asyncio.CancelledError:
            if order.report is None:
                tally.say("serverpy: interrupted; run the same command again to resume the incomplete files")
            raise
    if tally.failed:
        return 1
    return OUTPUT_CLOSED if tally.output_closed else 0


async def _get_isolated(jobs: Sequence[Job], order: Order, settings: Settings, watcher: Watcher) -> None:
    options = ["--to", order.to, "--since", repr(order.since)]
    options += [] if order.format is None else ["--format", order.format]
    options += [f"--{name.replace('_', '-')}={value}" for name, value in order.limits.items()]
    options += ["--force"] if order.force else []
    isolated = Isolated(options, settings, order.folder, watcher)
    await run_all(jobs, Announced(isolated, watcher), order.jobs, watcher)


async def _get_here(jobs: Sequence[Job], order: Order, settings: Settings, watcher: Watcher) -> None:
    from serverpy.cli.fetch import Fetcher, Wish
    from serverpy.engine import Engine  # a late import, because `--help` does not need the engine

    if order.report is not None:
        end_with_parent()
    with closing(_output(order)) as output:
        async with Engine(settings) as engine:
            fetcher = Fetcher(engine.delivery, Wish(order.format, order.to, **order.limits), output, watcher)
            await run_all(jobs, Announced(fetcher, watcher), order.jobs, watcher)


def _output(order: Order) -> Folder | Standard:
    if order.folder is None:
        return Standard()
    try:
        return Folder(order.folder, force=order.force, since=order.since)
    except OSError as error:
        raise ConfigurationError(f"the directory {order.folder} cannot be created: {error.strerror}") from error
