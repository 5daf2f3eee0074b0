"""Script that extracts each URL with unmodified yt-dlp and with the worker's slimmed YoutubeDL, and prints the
differences as JSON.

    python -m tests.ytdlp.compare URL...

The script must run in its own process, because `prepare` changes yt-dlp permanently for the whole process.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from yt_dlp import YoutubeDL

from serverpy.net.egress import Egress
from serverpy.net.guard import Guard
from serverpy.sample import PLUGIN_PATH
from serverpy.ytdlp.faults import translate
from serverpy.ytdlp.m3u8 import AUDIO_APART
from serverpy.ytdlp.prepare import prepare
from serverpy.ytdlp.session import instance
from serverpy.ytdlp.session.proxies import SessionProxies
from tests.extraction.workers import OPTIONS

DROPPED = {"fragment_base_url", AUDIO_APART}
"""Fields that are not compared, because only the results of unmodified yt-dlp or only those of the slimmed YoutubeDL
have them."""


class Silent:
    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def main(urls: list[str]) -> None:
    sys.path.append(str(PLUGIN_PATH))
    stock = {url: by_stock(url) for url in urls}
    guard = Guard.of(OPTIONS.targets)
    proxies = SessionProxies(lambda: Egress(guard))
    proxies.start()
    with tempfile.TemporaryDirectory() as directory:
        prepare("extract", OPTIONS, proxies, Path(directory))
        slim = {url: by_session(url) for url in urls}
    proxies.close()
    differences = {url: [stock[url], slim[url]] for url in urls if stock[url] != slim[url]}
    print(json.dumps({"differences": differences, "found": sum("formats" in str(each) for each in slim.values())}))


def by_stock(url: str) -> Any:
    params = {"format": instance.FORMAT, "check_formats": False, "noplaylist": True, "extract_flat": "in_playlist"}
    params |= {"playlistend": instance.MAX_ENTRIES + 1, "writesubtitles": True, "quiet": True, "logger": Silent()}
    with YoutubeDL({**params, "cachedir": False}) as ydl:
        return outcome(ydl, url)


def by_session(url: str) -> Any:
    with instance.open(OPTIONS) as ydl:
        return outcome(ydl, url)


def outcome(ydl: Any, url: str) -> Any:
    """Return the result of the extraction without the values that differ between any two extractions, or the name of
    the error class if the extraction fails."""
    try:
        info = ydl.sanitize_info(_with_plain_fragments(ydl.extract_info(url, download=False)))
    except Exception as error:  # noqa: BLE001  # errors are compared like results
        return type(translate(error)).__name__
    text = json.dumps(info, sort_keys=True, default=str)
    text = re.sub(r'"epoch": \d+', '"epoch": 0', text)
    text = re.sub(r'"(X-Tube-Token|cookies)": "[^"]*"', r'"\1": ""', text)
    text = re.sub(r"tube_session=[\w-]+", "tube_session=", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "", text)
    return json.loads(re.sub(r'"available_at": [\d.]+', '"available_at": 0', text))


def _with_plain_fragments(value: Any) -> Any:
    """Return `value` with all fragments as absolute URLs and durations. Unmodified yt-dlp lists fragments relative to a
    base URL. In the slimmed YoutubeDL, an object from `mpd/formats.py` makes the fragments when it is read."""
    if isinstance(value, dict):
        found = {key: _with_plain_fragments(each) for key, each in value.items() if key not in DROPPED}
        if "fragments" in value:
            found["fragments"] = [_plain(each, value.get("fragment_base_url")) for each in value["fragments"]]
        return found
    return [_with_plain_fragments(each) for each in value] if isinstance(value, list) else value


def _plain(fragment: dict[str, Any], base: str | None) -> list[Any]:
    return [fragment.get("url") or urljoin(base or "", fragment["path"]), fragment.get("duration")]


if __name__ == "__main__":
    main(sys.argv[1:])
