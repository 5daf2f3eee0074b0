"""Private temporary directories that are removed even after a process which was killed.

Whoever makes one holds a lock (flock(2)) on it for as long as it lives; the kernel lets go of the lock with the
process, however that ends. `sweep` removes what nobody holds. A process number in the name would not do: containers
that share a file system count their processes each for itself.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


class PrivateDirectory:
    """A new, empty directory for this user alone. Its owner calls `remove`. Costs one descriptor."""

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        self.path, self._lock = _made_and_locked(prefix, parent)

    def remove(self) -> None:
        """With all that is in it. May be called more than once; what cannot be removed is left to the next sweep."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        try:
            _remove(self.path)
        finally:
            os.close(lock)


def sweep(prefix: str, parent: str | None = None) -> None:
    """Remove this user's directories of that kind whose makers are gone."""
    for path in Path(parent or tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            lock = _opened(path)
        except OSError:
            continue  # it has gone, is another user's, or no directory
        try:
            if os.fstat(lock).st_uid == os.geteuid() and _locked(lock):
                _remove(path)
        finally:
            os.close(lock)


def _made_and_locked(prefix: str, parent: str | None) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _opened(path)
        except FileNotFoundError:
            continue  # swept in between, as below
        except BaseException:
            path.rmdir()
            raise
        if _locked(lock) and path.exists():
            return path, lock
        os.close(lock)  # somebody swept between the making and the locking


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # whoever works in it may be removing it too
    if path.exists():
        log.warning("%s cannot be removed", path)
