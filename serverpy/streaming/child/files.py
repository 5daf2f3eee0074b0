"""The files in a child's private directory.

The directory is removed with the child. It is in memory, in the folder IN_MEMORY, if this user may write there, as on
Linux. yt-dlp writes files for cookies, and for one fragment at a time.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import certifi

from serverpy.directories import PrivateDirectory, sweep
from serverpy.streaming.child.options import ChildOptions

IN_MEMORY = "/dev/shm"
DIRECTORY_PREFIX = "serverpy-child-"


class ChildFiles:
    """The paths, below `root`, that a child's arguments and environment name. The files do not exist before `write`."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.empty = root / "empty"
        self.tmp = root / "tmp"
        self.cookies = root / "cookies.txt"
        self.authorities = root / "authorities.pem"

    def write(self, options: ChildOptions) -> None:
        """Make the directories, and copy the cookies (yt-dlp writes its cookie jar back at the end) and the CA
        certificates. Raises OSError if that fails."""
        for directory in (self.work, self.empty, self.tmp):
            directory.mkdir()
        if options.identity.cookies_file:
            shutil.copyfile(options.identity.cookies_file, self.cookies)
        if options.network.ca_file:
            public, own = Path(certifi.where()).read_bytes(), Path(options.network.ca_file).read_bytes()
            self.authorities.write_bytes(public + b"\n" + own)


def new_directory() -> PrivateDirectory:
    """Make a directory for one child. Raises OSError if that fails."""
    return PrivateDirectory(DIRECTORY_PREFIX, _parent())


def sweep_directories() -> None:
    """Remove the directories that a killed server left behind."""
    sweep(DIRECTORY_PREFIX, _parent())


def _parent() -> str | None:
    """Return the parent folder in memory. Returns None, which means the system's default, if that folder is not
    writable."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
