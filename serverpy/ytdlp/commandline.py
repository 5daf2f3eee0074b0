"""The command line of yt-dlp, as ServerPY runs it in child processes for the `subprocess` method: `python -m
serverpy.ytdlp.commandline PARENT SITES …`, where PARENT is the process ID of the server process, SITES is `all` or an
`extraction.sites.Sites` as JSON, and the other arguments are those of yt-dlp. The URL of the page is on stdin, because
other users of the machine can read the arguments of a process. This process ends when the server process ends.

This module changes yt-dlp's own command line in these ways:

- The HTTP client accepts malformed response heads, and treats a truncated TLS connection as an error once the download
  has begun (`http_client.py`). curl_cffi bounds the framing of a body (`session/impersonation.py`).
- `m3u8.py` repairs HLS playlists before yt-dlp parses them, and `mpd/formats.py` lists the segments of DASH manifests.
- The downloaders are those of the method `embedded` (`download/`): they resume, check and decrypt the media, and write
  it to stdout.
- Extractors that the settings ALLOW_SITES, DENY_SITES or GENERIC_EXTRACTOR exclude refuse all pages. yt-dlp's own
  option `--use-extractors` does not suffice: without the extractor of a denied site, yt-dlp would pass the pages of the
  site to the next extractor that accepts them, and finally to the generic extractor.
- The filters of a format selector have the same limits as in the extraction process (`page/selector_filters.py`).
- If a format selector such as `bv*+ba/b` chooses a merge, yt-dlp uses its next choice that is a single format, because
  yt-dlp cannot merge formats here.
"""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from typing import Any, BinaryIO

import yt_dlp

from serverpy.errors import ServerPYError
from serverpy.parent import end_with_parent
from serverpy.ytdlp import http_client, m3u8
from serverpy.ytdlp.children import end_children_with_us
from serverpy.ytdlp.download.downloaders import STDOUT
from serverpy.ytdlp.download.writing import write_format
from serverpy.ytdlp.mpd import formats
from serverpy.ytdlp.page.candidates import Candidates, parts_of
from serverpy.ytdlp.page.selector_filters import LimitedFilters
from serverpy.ytdlp.page.selector_tree import parse
from serverpy.ytdlp.session import impersonation
from serverpy.ytdlp.stop import Stop

EVERY_SITE = "all"


class Downloading(LimitedFilters):
    """A YoutubeDL that writes the media to stdout with the downloaders of the method `embedded`, that raises an error
    if a TLS connection ends without close_notify during a download, and that limits format selectors."""

    def dl(self, name: str, info: dict[str, Any], subtitle: bool = False, test: bool = False) -> Any:
        http_client.TolerantResponse.cut_is_an_error = True
        if name != STDOUT:  # yt-dlp tests a format by a download of its first bytes into a temporary file
            return super().dl(name, info, subtitle, test)
        with Stop(threading.Event(), sys.stdout.fileno()) as stop:
            write_format(lambda: nullcontext(self), info, stop)
        return True, True

    def _select_formats(self, formats: Any, selector: Any) -> Any:
        """Return yt-dlp's choice. If that is a merge of several formats, returns the next choice that is a single
        format instead, if there is one."""
        picked = super()._select_formats(formats, selector)
        is_merge = bool(picked) and len(parts_of(picked[0])) > 1
        return (self._single(formats) or picked) if is_merge else picked

    def _single(self, formats: Any) -> list[Any]:
        node = parse(self.params.get("format") or "")
        found = () if node is None else Candidates(self, formats).of(node, formats)
        return [each for each in found if len(parts_of(each)) == 1][:1]


def main(arguments: list[str]) -> None:
    """Run yt-dlp's command line. Raises SystemExit with the exit code of yt-dlp. If a `ServerPYError` ends it, because
    the site is forbidden, the format selector takes too long, or the media cannot be downloaded, the last line on
    stderr has the code and the message of that error."""
    parent, sites, *rest = arguments
    end_with_parent(int(parent))
    http_client.install()
    if "curl_cffi" in sys.modules:  # yt-dlp has imported curl_cffi, if it is installed
        impersonation.bound_transfers()
    end_children_with_us(yt_dlp.utils.Popen)
    m3u8.install()
    formats.install()
    yt_dlp.YoutubeDL = Downloading if sites == EVERY_SITE else _limited(sites)
    try:
        # `--batch-file=-` would treat a `#` after a space as the beginning of a comment
        yt_dlp.main([*rest, "--", url_from(sys.stdin.buffer)])
    except ServerPYError as error:
        sys.exit(f"serverpy: {error.code}: {error}")


def url_from(file: BinaryIO) -> str:
    """Read the URL that the server process has written into `file`, in UTF-8 whatever the locale of this process is."""
    return file.read().decode("utf-8", "surrogateescape")


def _limited(allowed: str) -> type[Downloading]:
    import msgspec  # msgspec and its dependencies take 2 MB, and most operators limit no sites

    from serverpy.extraction.sites import Sites
    from serverpy.ytdlp.session.extractors import refusing

    sites = msgspec.json.decode(allowed, type=Sites)

    class Limited(Downloading):
        def add_info_extractor(self, ie: Any) -> None:
            if sites.may_run(ie.IE_NAME):
                super().add_info_extractor(ie)
            elif isinstance(ie, type):
                super().add_info_extractor(refusing(ie))
            else:
                super().add_info_extractor(refusing(type(ie))())

        def get_info_extractor(self, ie_key: str) -> Any:
            """Return the extractor for `ie_key` as yt-dlp does, but only if `add_info_extractor` has added it.
            Otherwise an allowed extractor could call a denied extractor."""
            if ie_key not in self._ies_instances and isinstance(self._ies.get(ie_key), type):
                self._ies_instances[ie_key] = ie = self._ies[ie_key]()
                ie.set_downloader(self)
            return super().get_info_extractor(ie_key)

    return Limited


if __name__ == "__main__":
    main(sys.argv[1:])
