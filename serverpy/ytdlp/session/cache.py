"""The disk cache in which extractors may keep data from one extraction to the next."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yt_dlp.cache import Cache

_SECTIONS = re.compile(r"youtube-[\w-]+|challenge-solver|soundcloud|brightcove|douyu|iq")
"""Pattern of the allowed cache sections. These sections contain players and public client ids, but no data about a
visitor."""
_MAX_FILES = 24


class SectionCache(Cache):  # type: ignore[misc]  # yt-dlp is untyped
    """yt-dlp's disk cache, limited to the sections that match `_SECTIONS` and to `_MAX_FILES` files."""

    def store(self, section: str, key: str, data: Any, dtype: str = "json") -> None:
        if _SECTIONS.fullmatch(section):
            self._make_room()
            super().store(section, key, data, dtype)

    def load(self, section: str, key: str, dtype: str = "json", default: Any = None, **more: Any) -> Any:
        return super().load(section, key, dtype, default, **more) if _SECTIONS.fullmatch(section) else default

    def _make_room(self) -> None:
        files = sorted(Path(self._get_root_dir()).glob("*/*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - _MAX_FILES + 1)]:
            path.unlink(missing_ok=True)
