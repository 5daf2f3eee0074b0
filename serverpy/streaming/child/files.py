"""The files in the private directory of a yt-dlp child process.

ServerPY removes the directory when it closes the child. If the user of the server may write to IN_MEMORY, as is usual
on Linux, the directory is there, in memory. In the directory, yt-dlp writes a file for cookies. It writes no media
there, except the first bytes of a format that it tests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import certifi

from serverpy.directories import IN_MEMORY, PrivateDirectory, sweep
from serverpy.streaming.child.options import ChildOptions

DIRECTORY_PREFIX = "serverpy-child-"


class ChildFiles:
    """The paths of a child's files and directories below `root`. The arguments and the environment of the child contain
    these paths. The files do not exist before `write`."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.empty = root / "empty"
        self.tmp = root / "tmp"
        self.cookies = root / "cookies.txt"
        self.authorities = root / "authorities.pem"

    def write(self, options: ChildOptions) -> None:
        """Make the directories, and write the CA certificates and a copy of the cookies file into them. The child needs
        a copy, because yt-dlp overwrites its cookies file when it exits. Raises `OSError` if a file or directory cannot
        be written."""
        for directory in (self.work, self.empty, self.tmp):
            directory.mkdir()
        if options.identity.cookies_file:
            shutil.copyfile(options.identity.cookies_file, self.cookies)
        if options.network.ca_file:
            public, own = Path(certifi.where()).read_bytes(), Path(options.network.ca_file).read_bytes()
            self.authorities.write_bytes(public + b"\n" + own)


def new_directory() -> PrivateDirectory:
    """Make a private directory for one child process. Raises `OSError` if the directory cannot be made."""
    return PrivateDirectory(DIRECTORY_PREFIX, _parent())


def sweep_directories() -> None:
    """Remove the directories of children that a killed server has left behind."""
    sweep(DIRECTORY_PREFIX, _parent())


def _parent() -> str | None:
    """Return the folder in which the directories are made: IN_MEMORY. Returns None (the default folder for temporary
    files) if the user of the server may not write to IN_MEMORY."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
