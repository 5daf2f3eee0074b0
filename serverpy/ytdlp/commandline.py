"""The command line of yt-dlp without the extractors that may not run: `python -m serverpy.ytdlp.commandline SITES …`.

`streaming/child/process.py` starts it instead of `yt_dlp` if ALLOW_SITES, DENY_SITES or GENERIC_EXTRACTOR exclude any
extractor. SITES is an `extraction.sites.Sites` as JSON; the arguments after it are yt-dlp's. yt-dlp's own option
`--use-extractors` is not enough: without the extractor of a denied site, its pages go to the next extractor that
accepts them, in the end to the generic one.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import yt_dlp

from serverpy.extraction.sites import Sites
from serverpy.ytdlp.session.extractors import refusing


def main(arguments: list[str]) -> None:
    """Run yt-dlp. Raises SystemExit with yt-dlp's exit code. If a site is forbidden, SiteForbidden is the last line of
    the traceback on stderr."""
    sites = msgspec.json.decode(arguments[0], type=Sites)

    class Limited(yt_dlp.YoutubeDL):  # type: ignore[misc]  # untyped
        def add_info_extractor(self, ie: Any) -> None:
            if sites.may_run(ie.IE_NAME):
                super().add_info_extractor(ie)
            elif isinstance(ie, type):
                super().add_info_extractor(refusing(ie))
            else:
                super().add_info_extractor(refusing(type(ie))())

        def get_info_extractor(self, ie_key: str) -> Any:
            """Do what yt-dlp does, but return only extractors that were added: otherwise one extractor could use
            another that may not run."""
            if ie_key not in self._ies_instances and isinstance(self._ies.get(ie_key), type):
                self._ies_instances[ie_key] = ie = self._ies[ie_key]()
                ie.set_downloader(self)
            return super().get_info_extractor(ie_key)

    yt_dlp.YoutubeDL = Limited
    yt_dlp.main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
