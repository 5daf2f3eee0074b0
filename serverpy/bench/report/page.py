"""A report page as values, and its two formats: Markdown, and one HTML file without external references.

Text may contain `code` and **bold**. Nothing else is markup, so error messages and other foreign text are shown
literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from serverpy.bench.report.svg import inline


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `marks` has a CSS class for each row (`good`, `bad`, `none`), which colours its last column in HTML."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    text: str
    folded: str = ""
    """The summary line to click on. HTML folds the block below this line, Markdown leaves the block out."""


@dataclass(frozen=True, slots=True)
class Drawing:
    name: str
    title: str
    caption: str
    svg: str


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Code | Drawing


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    blocks: tuple[Block, ...]


def to_markdown(page: Page, images: str) -> str:
    """Format the page as Markdown. `images` is the folder of the drawings, relative to the file."""
    parts = [f"# {page.title}", *(_markdown(block, images) for block in page.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block, images: str) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return f"> **{_plain(block.text)}**" if block.warning else _plain(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"* {_plain(item)}" for item in block.items)
    if isinstance(block, Table):
        return table_markdown(block)
    if isinstance(block, Code):
        return "" if block.folded else f"```\n{block.text}\n```"
    return f"![{_plain(block.title)}]({images}/{block.name}.svg)\n\n*{_plain(block.caption)}*"


def table_markdown(table: Table) -> str:
    lines = [table.head, tuple("---" for _ in table.head), *table.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return the text in one line, with `<`, `>` and `&` escaped outside of code, since Markdown would treat them as
    HTML."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else escape(piece, quote=False) for piece in pieces)


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#59626c;--paper:#ffffff;--band:#f2f4f7;--line:#d5dae0;
--good:#10683f;--bad:#a8321f;--link:#1d5fb0}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--soft:#a3acb7;--paper:#15181c;--band:#1f242a;--line:#39414a;
--good:#63cf99;--bad:#ff9480;--link:#82b6f5}}
body{margin:0 auto;max-width:62rem;padding:1.5rem 1rem 4rem;font:16px/1.55 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0 1rem}h2{margin:2.6rem 0 .6rem;padding-top:.8rem;
border-top:1px solid var(--line)}h3{margin:1.8rem 0 .4rem}
p,li{max-width:46rem}a{color:var(--link)}
code{font-size:.92em;background:var(--band);padding:.1em .3em;border-radius:3px}
pre{background:var(--band);padding:.8rem;overflow:auto;border-radius:6px;max-height:32rem}pre code{padding:0}
.wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.93rem;min-width:60%}
th,td{text-align:left;padding:.4rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
th{background:var(--band)}tbody tr:hover{background:var(--band)}td{font-variant-numeric:tabular-nums}
.good td:last-child{color:var(--good);font-weight:600}.bad td:last-child{color:var(--bad);font-weight:600}
.none td:last-child{color:var(--soft)}
.warning{border-left:4px solid var(--bad);background:var(--band);padding:.7rem 1rem}
figure{margin:1.4rem 0}figure svg{width:100%;height:auto;max-width:54rem}figcaption{color:var(--soft);max-width:46rem}
figcaption b{color:var(--ink)}.paper{fill:none}nav ul{columns:2;padding-left:1.2rem}summary{cursor:pointer}
@media (max-width:40rem){nav ul{columns:1}}
""".strip()


def to_html(page: Page) -> str:
    """Format the page as one HTML file that needs no network and no scripts, and supports light and dark themes."""
    body = "\n".join(_html(block) for block in page.blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{escape(page.title)}</h1>\n{_contents(page.blocks)}\n{body}\n</body>\n</html>\n"
    )


def _contents(blocks: Iterable[Block]) -> str:
    headings = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    items = "".join(f'<li><a href="#{anchor(text)}">{_inline(text)}</a></li>' for text in headings)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level} id="{anchor(block.text)}">{_inline(block.text)}</h{block.level}>'
    if isinstance(block, Paragraph):
        return f'<p class="warning">{_inline(block.text)}</p>' if block.warning else f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Bullets):
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Code):
        code = f"<pre><code>{escape(block.text, quote=False)}</code></pre>"
        return f"<details><summary>{_inline(block.folded)}</summary>{code}</details>" if block.folded else code
    caption = f"<figcaption><b>{_inline(block.title)}.</b> {_inline(block.caption)}</figcaption>"
    return f"<figure>{inline(block.svg)}{caption}</figure>"


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in table.head)
    marks: Sequence[str] = table.marks or [""] * len(table.rows)
    rows = "\n".join(_html_row(row, mark) for row, mark in zip(table.rows, marks, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _html_row(row: Sequence[str], mark: str) -> str:
    cells = "".join(f"<td>{_inline(cell)}</td>" for cell in row)
    return f'<tr class="{mark}">{cells}</tr>' if mark else f"<tr>{cells}</tr>"


def _inline(text: str) -> str:
    safe = escape(text, quote=False)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", safe)
