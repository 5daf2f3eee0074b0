"""Pure functions that return the argument vector and the environment of a yt-dlp child process.

No text from a client can become an option, because the child reads the URL from its stdin (`ytdlp/commandline.py`), and
the format selector is part of the argument `--format=`. Other users of the machine can read the arguments of a process,
and the URL may contain a secret. The environment contains the variables that a Python interpreter needs
(`environment.py`), names no configuration and no cache, and has a PATH without programs. The URL of the filtering proxy
contains a token, so it is passed in the environment, and not as an argument.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import serverpy
from serverpy.body import Source
from serverpy.environment import passed_on
from serverpy.streaming.child.choice import order_of, selector_of
from serverpy.streaming.child.files import ChildFiles
from serverpy.streaming.child.options import ChildOptions

PROGRAM = "serverpy.ytdlp.commandline"
"""Name of the module that the child process runs: yt-dlp's command line with the downloaders of the method `embedded`
and with the site restrictions of the settings."""

FOUND = (
    '{"title":%(title.:300)j,"ext":%(ext.:20)j,"duration":%(duration)j,"is_live":%(is_live)j,'
    '"filesize":%(filesize)j,"filesize_approx":%(filesize_approx)j,"playlist_index":%(playlist_index)j,'
    '"vcodec":%(vcodec.:20)j,"acodec":%(acodec.:20)j,'
    '"requested_formats":%(requested_formats.0.format_id.:20)j}'
)
"""The yt-dlp template of the line that the child prints before it downloads (`messages.py::Found`). The template
truncates texts, because a page may contain texts of any length, and the line must not exceed MAX_FOUND_BYTES."""


def arguments(options: ChildOptions, source: Source, marker: str, files: ChildFiles) -> list[str]:
    """Return the argument vector of a child process. Only the values of `--format=` and `--format-sort=` contain text
    from the client."""
    return [
        sys.executable,
        "-m",
        PROGRAM,
        str(os.getpid()),
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
        # download only the first file: a format selector may select several files (`b,w`), but one stream can contain
        # only one file
        "--max-downloads=1",
        "--abort-on-error",
        f"--socket-timeout={min(20.0, options.timeouts.stall)}",
        "--fixup=never",
        "--downloader=native",
        *([f"--impersonate={options.identity.impersonate}"] if options.identity.impersonate else []),
        *([f"--cookies={files.cookies}"] if options.identity.cookies_file else []),
        *(["--compat-options=no-certifi"] if options.network.ca_file else []),
        "--output-na-placeholder=null",
        f"--print=before_dl:{marker}{FOUND}",
        *_format(source),
        "--output=-",
    ]


def _format(source: Source) -> list[str]:
    if source.format is not None:
        return [f"--format={source.format}"]
    return [f"--format={selector_of(source.wish)}", f"--format-sort={order_of(source.wish)}"]


def environment(options: ChildOptions, files: ChildFiles) -> dict[str, str]:
    """Return all environment variables of a child process. NO_PROXY is not set, so that no request bypasses the proxy.
    PATH is an empty directory, because yt-dlp would otherwise download some formats with ffmpeg, which ignores the
    proxy."""
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
