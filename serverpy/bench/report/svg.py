"""What is done to matplotlib's SVG so that it can stand in a page: themes, names, no references to anything outside.

A drawing uses two marker colours, INK for text and lines and PAPER for what lies behind. Here they become CSS, so that
one file is readable on light and on dark: `currentColor`, and a class whose fill follows the reader's preference.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

INK = "#010203"
PAPER = "#fdfcfb"

_STYLE = (
    "<style>svg{color:#1c2024}.paper{fill:#ffffff}"
    "@media (prefers-color-scheme:dark){svg{color:#e4e7eb}.paper{fill:#15181c}}</style>"
)
"""Of a file that stands alone. Inside the page the page's own colours count."""


def finish(raw: str, name: str, title: str, text: str) -> str:
    """A file of its own: `title` and `text` are what a reader is told who does not see it."""
    body = raw[raw.index("<svg") :].rstrip() + "\n"
    body = body.replace(f'style="fill: {PAPER}"', 'class="paper"').replace(INK, "currentColor")
    body = _name_ids(body, name)
    head, rest = body.split(">", 1)
    label = f"<title>{escape(title)}</title><desc>{escape(text)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head} role="img">{label}{_STYLE}{rest}'


def inline(svg: str) -> str:
    """The same for the inside of a page: without declaration and styles, as wide as its place."""
    body = svg[svg.index("<svg") :].replace(_STYLE, "")
    head, rest = body.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f"{head}>{rest}"


def _name_ids(body: str, name: str) -> str:
    """Several drawings in one page must not share names."""
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
