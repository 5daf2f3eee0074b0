"""Locks on open files (flock(2)), on file systems that may have none (NFS, SMB, FUSE)."""

from __future__ import annotations

import fcntl
from enum import Enum, auto


class Lock(Enum):
    """What came of an attempt to lock a file."""

    HELD = auto()
    TAKEN = auto()
    """Somebody else holds it."""
    UNSUPPORTED = auto()
    """The file system refuses to lock, so nobody can tell whether the file is in use."""


def try_lock(descriptor: int) -> Lock:
    """Lock the file until `descriptor` is closed. Does not wait."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError:  # ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL, EIO; of a directory on NFS, EBADF
        return Lock.UNSUPPORTED
    return Lock.HELD
