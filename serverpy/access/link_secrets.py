"""The secrets that sign links: those of LINK_SECRET, or else one that is made at the first need and kept in STATE_DIR.

The file `link-secret` has one secret in each line, like LINK_SECRET: the first one signs, all of them open links. It is
created complete, by a hard link to a finished file, so that of several processes that start at once exactly one wins,
and no process ever reads half a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from serverpy.access.links import LinkKey, derive

logger = logging.getLogger(__name__)

FILE_NAME = "link-secret"
MIN_CHARACTERS = 16
MAX_FILE_BYTES = 64 * 1024


class LinkSecrets:
    """The secrets of one application, and their keys. `configured` are the values of LINK_SECRET, `directory` is
    STATE_DIR."""

    def __init__(self, configured: Sequence[str], directory: Path | None) -> None:
        self._secrets = tuple(configured)
        self._directory = directory
        self._keys: tuple[LinkKey, ...] = ()
        self._lock = threading.Lock()

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets; the first one signs. Reads or makes the file at the first call."""
        with self._lock:  # otherwise two first requests could make two secrets
            if not self._secrets:
                self._secrets = self._kept()
            return self._secrets

    async def keys(self) -> tuple[LinkKey, ...]:
        """Return the keys that are derived from the secrets. Reads or makes the file in a thread."""
        if not self._keys:
            self._keys = tuple(map(derive, await asyncio.to_thread(self.secrets)))
        return self._keys

    def _kept(self) -> tuple[str, ...]:
        """Return the secrets of the file. If it cannot be used, returns a secret that lasts as long as the server."""
        try:
            if self._directory is not None:
                return load_or_make(self._directory)
            reason = "STATE_DIR is none"
        except (OSError, ValueError) as error:
            reason = str(error)
        logger.warning("signed links and sessions end when the server ends, because %s: set LINK_SECRET", reason)
        return (_new_secret(),)


def load_or_make(directory: Path) -> tuple[str, ...]:
    """Return the secrets in the file of `directory`. Makes both if they do not exist. Raises OSError if the file can be
    neither read nor made, ValueError if its content is invalid."""
    try:
        return load(directory)
    except FileNotFoundError:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(directory / FILE_NAME)
        return load(directory)


def load(directory: Path) -> tuple[str, ...]:
    """Return the secrets in the file of `directory`. Raises OSError if the file cannot be read, ValueError if its
    content is invalid."""
    path = directory / FILE_NAME
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(MAX_FILE_BYTES)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("other users of this machine can read or change %s: its mode should be 0600", path)
    found = tuple(content.decode("utf-8", "replace").split())
    if not found or min(map(len, found)) < MIN_CHARACTERS:
        raise ValueError(f"{path} needs a secret of {MIN_CHARACTERS} characters or more in each line")
    return found


def _make(path: Path) -> None:
    """Create `path` with a new secret, unless another process creates it first."""
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE_NAME}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{_new_secret()}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _new_secret() -> str:
    return secrets.token_urlsafe(32)
