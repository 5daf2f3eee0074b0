"""The search for the names of the extractors that can find their own player in a page of another site.

yt-dlp's generic extractor asks every extractor that it knows whether a page contains its player. To ask an extractor,
yt-dlp imports the module of the extractor. The import of about 960 modules takes a second of CPU time and 28 MB, which
are never freed. Only a tenth of the extractors can find a player. This module finds the names of these in the source
files without an import (0.2 s): they are the classes that set `_EMBED_REGEX` or override a method that finds players,
and the subclasses of these classes. A superfluous name costs one import. `tests/ytdlp/test_embeds.py` shows that no
name is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_CLASS = re.compile(r"^class (\w+)\(([^)]*)\):", re.MULTILINE)
_ANSWERS = re.compile(
    r"^    (?:_EMBED_REGEX\b|def (?:_extract_embed_urls|_extract_from_webpage|extract_from_webpage)\b)", re.MULTILINE
)
_BASE_CLASS = "InfoExtractor"


def embed_capable(extractors: Path) -> frozenset[str]:
    """Return the keys (class names without `IE`) of the extractors under the directory `extractors` that can find
    embedded players."""
    bases: dict[str, set[str]] = {}
    capable: set[str] = set()
    for name, parents, body in _classes(extractors):
        bases.setdefault(name, set()).update(parents)
        if name != _BASE_CLASS and _ANSWERS.search(body):
            capable.add(name)
    while heirs := {name for name, parents in bases.items() if name not in capable and parents & capable}:
        capable |= heirs
    return frozenset(name.removesuffix("IE") for name in capable)


def _classes(extractors: Path) -> Iterator[tuple[str, set[str], str]]:
    for path in extractors.rglob("*.py"):
        if path.name == "lazy_extractors.py":
            continue
        source = path.read_text(encoding="utf-8")
        found = list(_CLASS.finditer(source))
        ends = [match.start() for match in found[1:]] + [len(source)]
        for match, end in zip(found, ends, strict=False):
            parents = {parent.strip().rpartition(".")[2] for parent in match[2].split(",") if "=" not in parent}
            yield match[1], parents, source[match.end() : end]
