"""Locks on open files (flock(2)), which also report that a file system (NFS, SMB, FUSE) does not support locks."""

from __future__ import annotations

import contextlib
import fcntl
from enum import Enum, auto


class Lock(Enum):
    """The result of an attempt to lock a file."""

    HELD = auto()
    TAKEN = auto()
    """Another process, or another descriptor of this process, holds the lock."""
    UNSUPPORTED = auto()
    """The file system does not support locks, so the caller cannot tell whether the file is in use."""


def try_lock(descriptor: int) -> Lock:
    """Try, without waiting, to lock the file of `descriptor`. The lock ends when the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    # the file system reports ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL or EIO, or EBADF for a directory on NFS
    except OSError:
        return Lock.UNSUPPORTED
    return Lock.HELD


def wait_for_lock(descriptor: int) -> None:
    """Lock the file until `descriptor` is closed; wait for other holders. Has no effect on a file system without
    locks."""
    with contextlib.suppress(OSError):  # the file system may not support locks (see `try_lock`)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
