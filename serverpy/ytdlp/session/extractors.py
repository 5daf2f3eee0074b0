"""yt-dlp's extractors, loaded once per process. Extractors that the settings exclude are replaced by extractors that
raise an error.

Each YoutubeDL object lists the extractors again, which takes 50–150 ms, and imports the modules of all 960 extractors
(28 MB) for its first page of an unknown site. This module makes the dictionary of the extractor classes once, and each
instance gets a copy. The generic extractor of this module asks only the extractors that can find embedded players
(`embeds.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yt_dlp
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.extractor.generic import GenericIE as StockGenericIE
from yt_dlp.plugins import load_all_plugins

from serverpy.errors import SiteForbidden
from serverpy.extraction.sites import Sites
from serverpy.ytdlp.session.embeds import embed_capable
from serverpy.ytdlp.session.log import Log


@dataclass(frozen=True, slots=True)
class Extractors:
    """yt-dlp's extractors by key, in yt-dlp's order. `embeds` contains only the extractors that can find embedded
    players."""

    classes: Mapping[str, Any]
    embeds: Mapping[str, Any]


@functools.cache
def known() -> Extractors:
    load_all_plugins()
    stock = YoutubeDL({"quiet": True, "logger": Log(), "cachedir": False}, auto_init=False)
    stock.add_default_info_extractors()
    classes = {key: ie for key, ie in stock._ies.items() if isinstance(ie, type)}
    stock.close()
    capable = embed_capable(Path(yt_dlp.extractor.__file__).parent)
    embeds = {key: ie for key, ie in classes.items() if key in capable or not _is_stock(ie)}
    return Extractors(MappingProxyType(classes), MappingProxyType(embeds))


def _is_stock(ie: Any) -> bool:
    return str(getattr(ie, "_module", None) or ie.__module__).startswith("yt_dlp.")


@functools.cache
def permitted(sites: Sites) -> Extractors:
    """Return all extractors, but replace each extractor that `sites` excludes by one that accepts the same URLs and
    raises SiteForbidden. `embeds` contains no excluded extractor."""
    everything = known()
    classes = {key: ie if sites.may_run(ie.IE_NAME) else refusing(ie) for key, ie in everything.classes.items()}
    embeds = {key: ie for key, ie in everything.embeds.items() if key != "Generic" and sites.may_run(ie.IE_NAME)}
    return Extractors(MappingProxyType(classes), MappingProxyType(embeds))


def refusing(ie: Any) -> Any:
    """Return an extractor that accepts the same URLs as `ie`, and raises SiteForbidden instead of extracting them."""

    class Forbidden(InfoExtractor):  # type: ignore[misc]  # yt-dlp is untyped
        IE_NAME = ie.IE_NAME
        _VALID_URL = ie._VALID_URL
        suitable = staticmethod(ie.suitable)
        ie_key = staticmethod(ie.ie_key)

        def extract(self, url: str) -> Any:
            raise SiteForbidden(f"This server does not allow the site {ie.IE_NAME}.")

    return Forbidden


class GenericIE(StockGenericIE):  # type: ignore[misc]  # yt-dlp is untyped
    """The generic extractor, changed to ask only the extractors that can find their own player in a page of another
    site."""

    def _extract_embeds(self, *args: Any, **kwargs: Any) -> Any:
        everything = self._downloader._ies
        self._downloader._ies = self._downloader.embeds
        try:
            return list(super()._extract_embeds(*args, **kwargs))
        finally:
            self._downloader._ies = everything


def first_suitable(url: str) -> str | None:
    """Return the key of the extractor that yt-dlp chooses for `url`: the first one whose method `suitable` accepts it.
    Returns None if no extractor accepts `url`. Takes a quarter of the time of yt-dlp's own search, which is a quarter
    of the extraction of a small page."""
    return next((key for key, accepts in _acceptances() if accepts(url)), None)


@functools.cache
def _acceptances() -> tuple[tuple[str, Callable[[str], object]], ...]:
    """Return for each extractor, in yt-dlp's order, its key, and a function that returns a true value if the extractor
    accepts a URL. `permitted` does not change which URLs an extractor accepts."""
    return tuple((key, _acceptance(ie)) for key, ie in known().classes.items())


def _acceptance(ie: Any) -> Callable[[str], object]:
    """Return the method `match` of the extractor's regular expression, or the extractor's method `suitable` if the
    extractor overrides yt-dlp's search, or has several expressions or none."""
    accepts: Callable[[str], object] = ie.suitable
    accepts("https://host.invalid/")  # yt-dlp compiles the expressions here
    expressions = vars(ie).get("_VALID_URL_RE", ())
    is_plain = len(expressions) == 1 and _inherits(ie, "suitable") and _inherits(ie, "_match_valid_url")
    return expressions[0].match if is_plain else accepts


def _inherits(ie: Any, method: str) -> bool:
    """Return whether `method` is that of the base class of all extractors, or of all lazy extractors."""
    return getattr(ie, method).__qualname__ in (f"InfoExtractor.{method}", f"LazyLoadExtractor.{method}")


def warm_up() -> None:
    """Match a URL against all extractors. The first match in a process compiles 1,750 regular expressions (0.5–1 s).
    After this call, no client has to wait for that."""
    first_suitable("https://host.invalid/")
