"""Adaptation of matplotlib's SVG for a page: themes, unique ids, no external references.

A drawing uses two placeholder colours, INK for text and lines and PAPER for the background. This module replaces them
by CSS, `currentColor` and a class whose fill follows the reader's preference, so that one file suits light and dark
themes.
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
"""The style of a standalone file. Inside a page, the colours of the page apply."""


def finish(raw: str, name: str, title: str, text: str) -> str:
    """Return a standalone SVG file. `title` and `text` describe it to readers who cannot see it."""
    body = raw[raw.index("<svg") :].rstrip() + "\n"
    body = body.replace(f'style="fill: {PAPER}"', 'class="paper"').replace(INK, "currentColor")
    body = _name_ids(body, name)
    head, rest = body.split(">", 1)
    label = f"<title>{escape(title)}</title><desc>{escape(text)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head} role="img">{label}{_STYLE}{rest}'


def inline(svg: str) -> str:
    """Return the SVG for use inside a page: without declaration and styles, as wide as the element around it."""
    body = svg[svg.index("<svg") :].replace(_STYLE, "")
    head, rest = body.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f"{head}>{rest}"


def _name_ids(body: str, name: str) -> str:
    """Prefix all ids with `name`, because several drawings in one page must not share ids."""
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
