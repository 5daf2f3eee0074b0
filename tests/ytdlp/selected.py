"""Script that applies format selectors to a page with unmodified yt-dlp, and prints the ids of the first choices as
JSON.

python -m tests.ytdlp.selected URL SELECTOR...
"""

from __future__ import annotations

import json
import sys

from yt_dlp import YoutubeDL

from serverpy.sample import PLUGIN_PATH


def main(url: str, *selectors: str) -> None:
    sys.path.append(str(PLUGIN_PATH))
    with YoutubeDL({"quiet": True, "check_formats": False, "cachedir": False}) as ydl:
        formats = ydl.extract_info(url, download=False)["formats"]
        picked = {text: ydl._select_formats(formats, ydl.build_format_selector(text)) for text in selectors}
    print(json.dumps({text: [each["format_id"] for each in found[:1]] for text, found in picked.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
