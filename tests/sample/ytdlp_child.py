"""Program that runs unmodified yt-dlp with the sample site's plugin.

The program reads one JSON request per line from stdin, and writes one JSON answer per line to stdout. It runs in a
separate process, because a yt-dlp plugin stays loaded until its process ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import yt_dlp


class Quiet:
    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def answer(request: dict[str, Any]) -> dict[str, Any]:
    params = {"quiet": True, "logger": Quiet(), "noprogress": True, "cachedir": False, "fixup": "never"}
    with yt_dlp.YoutubeDL({**params, **request.get("params", {})}) as ydl:
        try:
            info = ydl.extract_info(
                request["url"], download=request.get("download", False), process=request.get("process", True)
            )
        except yt_dlp.utils.DownloadError as error:
            cause = error.exc_info[1] if error.exc_info else None
            return {"error": str(error), "kind": type(cause).__name__}
        return {"info": ydl.sanitize_info({**info, "entries": list(info["entries"])} if "entries" in info else info)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
