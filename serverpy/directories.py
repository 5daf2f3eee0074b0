"""Private temporary directories that are removed even if the process that made them was killed.

The process that makes a directory holds a lock (flock(2)) on it; the kernel drops the lock when the process ends for
any reason. `sweep` removes the directories that no process has locked. A process ID in the directory's name could not
replace the lock, because two containers that share a file system may use the same process ID. On a file system without
locks, `sweep` cannot tell which directories are in use, and removes none.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from serverpy.locks import Lock, try_lock

log = logging.getLogger(__name__)
IN_MEMORY = "/dev/shm"
"""A folder in memory, which can be written to even in most containers with a read-only file system."""


class PrivateDirectory:
    """A new, empty directory that only this user can access. Its owner calls `remove`. Holds one file descriptor until
    then."""

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        self.path, self._lock = _made_and_locked(prefix, parent)

    def remove(self) -> None:
        """Remove the directory with its contents. Idempotent. If this call cannot remove a file, a later `sweep`
        removes it."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        try:
            _remove(self.path)
        finally:
            os.close(lock)


def sweep(prefix: str, parent: str | None = None) -> None:
    """Remove this user's directories whose names begin with `prefix` and whose owner processes have ended."""
    for path in Path(parent or _default_parent()).glob(f"{prefix}*"):
        try:
            lock = _opened(path)
        except OSError:
            continue  # either the directory is gone, or it belongs to another user, or the path is not a directory
        try:
            if os.fstat(lock).st_uid == os.geteuid() and try_lock(lock) is Lock.HELD:
                _remove(path)
        finally:
            os.close(lock)


def _default_parent() -> str:
    """Return the default folder for temporary files, or IN_MEMORY if there is none that can be written to."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return IN_MEMORY


def _made_and_locked(prefix: str, parent: str | None) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent or _default_parent()))
        try:
            lock = _opened(path)
        except FileNotFoundError:
            continue  # another process removed the directory before this process opened it
        except BaseException:
            path.rmdir()
            raise
        if try_lock(lock) is not Lock.TAKEN and path.exists():
            return path, lock
        os.close(lock)  # another process removed the directory before this process locked it


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # another process may be removing the directory at the same time
    if path.exists():
        log.warning("the temporary directory %s cannot be removed; remove it by hand", path)
