"""The command of a child: argument vector and environment, as pure functions.

No text from a client can become an option: the URL and the selector are single arguments. The environment has the
variables that an interpreter needs (`environment.py`), no configuration, no cache and no program on the PATH. The
environment carries the URL of the filtering proxy, which contains a token: other users could read the token in the
arguments.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import serverpy
from serverpy.body import Source
from serverpy.environment import passed_on
from serverpy.options import Identity
from serverpy.streaming.child.files import ChildFiles
from serverpy.streaming.child.options import ChildOptions

DEFAULT_FORMAT = "b/bv*+ba/bv*/ba/all"
"""Default selector. If video and audio are separate formats, the selector asks for both, and the method refuses the
merge instead of sending only one of them. `all`, best first, finds images, which have neither codec."""
PROGRAM = "serverpy.ytdlp.commandline"
"""Module to run: yt-dlp's command line, which notices a cut TLS connection, and refuses the sites that are not
allowed."""

FOUND = (
    '{"title":%(title.:300)j,"ext":%(ext.:20)j,"duration":%(duration)j,"is_live":%(is_live)j,'
    '"filesize":%(filesize)j,"filesize_approx":%(filesize_approx)j,"playlist_index":%(playlist_index)j,'
    '"vcodec":%(vcodec.:20)j,"acodec":%(acodec.:20)j,'
    '"requested_formats":%(requested_formats.0.format_id.:20)j}'
)
"""The line that the child prints before it downloads (`messages.py::Found`). Texts are truncated, because those of a
page may have any length and the line must fit into MAX_FOUND_BYTES."""


def arguments(options: ChildOptions, source: Source, marker: str, files: ChildFiles) -> list[str]:
    """Return the argument vector. Only the value of `--format=` and the last argument contain text from the client."""
    return [
        sys.executable,
        "-m",
        PROGRAM,
        "all" if options.sites.unlimited else msgspec.json.encode(options.sites).decode(),
        "--ignore-config",
        "--no-update",
        "--no-cache-dir",
        "--quiet",
        "--no-warnings",
        "--no-progress",
        "--color=never",
        *(["--no-playlist"] if source.item is None else []),
        f"--playlist-items={source.item or 1}",
        # A selector may ask for several files (`b,w`), which cannot follow each other in one stream.
        "--max-downloads=1",
        "--abort-on-error",
        "--abort-on-unavailable-fragments",
        # With retries, yt-dlp writes the beginning a second time if a server does not resume.
        "--retries=0",
        "--fragment-retries=0",
        f"--socket-timeout={min(20.0, options.timeouts.stall)}",
        "--fixup=never",
        "--no-part",
        "--no-mtime",
        "--downloader=native",
        *_impersonation(options.identity),
        *([f"--cookies={files.cookies}"] if options.identity.cookies_file else []),
        *(["--compat-options=no-certifi"] if options.network.ca_file else []),
        "--output-na-placeholder=null",
        f"--print=before_dl:{marker}{FOUND}",
        f"--format={source.format or DEFAULT_FORMAT}",
        "--output=-",
        "--",
        source.url,
    ]


def _impersonation(identity: Identity) -> list[str]:
    # curl_cffi queues a body without a bound; requests for 1 MiB at a time bound the queue.
    return [f"--impersonate={identity.impersonate}", "--http-chunk-size=1M"] if identity.impersonate else []


def environment(options: ChildOptions, files: ChildFiles) -> dict[str, str]:
    """Return the whole environment of a child. NO_PROXY is absent. PATH leads to an empty directory, because yt-dlp
    would otherwise download with ffmpeg, which ignores the proxy."""
    proxy = options.proxy_url()
    empty = str(files.empty)
    values = {
        **passed_on(),
        "HOME": empty,
        "LC_ALL": "C.UTF-8",
        "PATH": empty,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(files.tmp),
        **{f"XDG_{name}_HOME": empty for name in ("CACHE", "CONFIG", "DATA", "STATE")},
        **{f"{scheme}_proxy": proxy for scheme in ("http", "https", "ftp", "all")},
    }
    paths = options.plugin_paths
    if not paths:
        values["YTDLP_NO_PLUGINS"] = "1"
    values["PYTHONPATH"] = os.pathsep.join((*paths, str(Path(serverpy.__file__).parent.parent)))
    if options.network.ca_file:
        values["SSL_CERT_FILE"] = str(files.authorities)
    return values
