"""The command `serverpy info`, which shows the metadata and formats of a page: the response of `GET /info`, as a table
or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, get_args

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serverpy.cli.options import EngineCommand, engine_options
from serverpy.cli.terminal import PIPE_COLUMNS, READING, one_line, page_url, run, size
from serverpy.options import Method
from serverpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from serverpy.info import FormatInfo, Info

LISTED = 20
"""Maximum number of playlist entries that the command lists. For any further entries, it shows only how many they
are."""
ALL_METHODS = set(get_args(Method)) - {"auto"}
HELP = "Show the media of the page URL: its title, kind and formats, the best one last."


@click.command("info", help=HELP, cls=EngineCommand)
@click.argument("url", callback=lambda _context, _argument, value: page_url(value))
@click.option("--json", "as_json", is_flag=True, help="Print the JSON response of `GET /info` unchanged.")
@engine_options
def command(url: str, as_json: bool, **options: Any) -> None:
    settings = load_settings(**options)
    sys.exit(run(lambda: _print(settings, url, as_json)))


async def _print(settings: Settings, url: str, as_json: bool) -> int:
    with reading():
        info = await find(settings, url)
    if as_json:
        sys.stdout.buffer.write(info.model_dump_json().encode() + b"\n")  # JSON is UTF-8 in any locale (RFC 8259 §8.1)
    else:
        show(info, Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False))
    return 0


def reading() -> AbstractContextManager[Any]:
    """Return a context manager that shows on stderr, if it is a terminal, that ServerPY is reading the page."""
    return Console(stderr=True).status(READING) if sys.stderr.isatty() else nullcontext()


async def find(settings: Settings, url: str) -> Info:
    """Extract the page `url` with an engine that starts and ends with this call."""
    from serverpy.engine import Engine  # a late import, because `--help` does not need the engine

    async with Engine(settings) as engine:
        return await engine.info(url)


def show(info: Info, console: Console) -> None:
    for line in heading(info):
        console.print(Text(line), soft_wrap=True)
    if info.formats:
        console.print(formats_table(info))
    for line in (*subtitles(info), *entries(info)):
        console.print(Text(line), soft_wrap=True)


def heading(info: Info) -> Iterator[str]:
    yield one_line(info.title)
    about = [info.kind, *([clock(info.duration)] if info.duration else [])]
    about += [f"by {one_line(info.uploader)}"] if info.uploader else []
    yield f"{', '.join(about)} ({info.extractor})"
    yield one_line(info.webpage_url)


def formats_table(info: Info) -> Table:
    """Make a table with one row for each format, in the order of the page: the best format last."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "ext", "resolution", "codecs"):
        table.add_column(name, overflow="fold")
    for name in ("bitrate", "size"):
        table.add_column(name, justify="right")
    for name in ("protocol", "methods", "note"):
        table.add_column(name, overflow="fold")
    for each in info.formats:
        table.add_row(*(Text(one_line(cell)) for cell in _cells(each)))
    return table


def _cells(each: FormatInfo) -> tuple[str, ...]:
    about = "~" if each.size is not None and not each.size_exact else ""
    return (
        each.id,
        each.ext,
        resolution(each),
        codecs(each),
        f"{each.bitrate:.0f}k" if each.bitrate else "",
        f"{about}{size(each.size)}" if each.size is not None else "",
        each.protocol,
        "all" if set(each.methods) >= ALL_METHODS else ", ".join(each.methods) or "none",
        ", ".join(word for word in (each.language, each.note) if word),
    )


def resolution(each: FormatInfo) -> str:
    if each.height is None and each.width is None:
        return "audio" if each.vcodec is None and each.acodec is not None else ""
    rate = f" {each.fps:g}fps" if each.fps else ""
    return f"{each.width or '?'}x{each.height or '?'}{rate}"


def codecs(each: FormatInfo) -> str:
    return " + ".join(codec for codec in (each.vcodec, each.acodec) if codec)


def subtitles(info: Info) -> Iterator[str]:
    if info.subtitles:
        words = (f"{each.language} ({each.ext}{', automatic' if each.automatic else ''})" for each in info.subtitles)
        yield f"subtitles: {one_line(', '.join(words))}"


def entries(info: Info) -> Iterator[str]:
    """List the playlist items and images of a page with their numbers, which `--item` takes."""
    images = {each.item: each for each in info.images}
    if images and not info.entries:
        return
    for each in info.entries[:LISTED]:
        image = images.get(each.item)
        shape = [f"{image.ext} {image.width or '?'}x{image.height or '?'}"] if image else []
        length = [clock(each.duration)] if each.duration else []
        title = one_line(each.title or each.url or "")
        yield f"{each.item:>4}  {'  '.join([title, *shape, *length])}"
    if len(info.entries) > LISTED:
        yield f"      and {len(info.entries) - LISTED} more"


def clock(seconds: float) -> str:
    """Format a duration in seconds: `1:02:03`, `0:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
