"""The secrets that sign links: those of LINK_SECRET or, if it is not set, a random secret that the server creates when
it first needs one, and stores in STATE_DIR.

The file `link-secret` has one secret in each line, like LINK_SECRET: the first one signs new links, and a link that any
of them signed is valid. A process creates the file as a hard link to a complete temporary file. So if several processes
start at the same time, exactly one of them creates the file, and no process ever reads an incomplete secret.
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
    """The secrets of one application, and the keys that are derived from them. `configured` are the values of
    LINK_SECRET, `directory` is STATE_DIR."""

    def __init__(self, configured: Sequence[str], directory: Path | None) -> None:
        self._secrets = tuple(configured)
        self._directory = directory
        self._keys: tuple[LinkKey, ...] = ()
        self._lock = threading.Lock()
        self._deriving = asyncio.Lock()

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets, of which the first one signs new links. Without LINK_SECRET, the first call reads or
        creates the file."""
        with self._lock:  # without the lock, two concurrent first calls could return different secrets
            if not self._secrets:
                self._secrets = self._kept()
            return self._secrets

    async def keys(self) -> tuple[LinkKey, ...]:
        """Return the keys that are derived from the secrets. The first call reads or creates the file in a thread."""
        if not self._keys:
            async with self._deriving:  # without the lock, each of several concurrent first calls would derive the keys
                self._keys = self._keys or await asyncio.to_thread(self._derived)
        return self._keys

    def _derived(self) -> tuple[LinkKey, ...]:
        return tuple(map(derive, self.secrets()))

    def _kept(self) -> tuple[str, ...]:
        """Return the secrets in the file. If the file cannot be used, logs a warning and returns a random secret, which
        is lost when the server stops."""
        try:
            if self._directory is not None:
                return load_or_make(self._directory)
            reason = "STATE_DIR is none"
        except (OSError, ValueError) as error:
            reason = str(error)
        logger.warning(
            "signed links and sessions become invalid when the server stops, because %s: set LINK_SECRET", reason
        )
        return (_new_secret(),)


def load_or_make(directory: Path) -> tuple[str, ...]:
    """Return the secrets in the file `link-secret` of `directory`. Creates the directory, and the file with a random
    secret, if they do not exist. Raises OSError if the file can be neither read nor created, ValueError if its content
    is invalid."""
    try:
        return load(directory)
    except FileNotFoundError:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(directory / FILE_NAME)
        return load(directory)


def load(directory: Path) -> tuple[str, ...]:
    """Return the secrets in the file `link-secret` of `directory`. Raises OSError if the file cannot be read,
    ValueError if its content is invalid."""
    path = directory / FILE_NAME
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(MAX_FILE_BYTES)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("other users of this machine can read or change %s: set its mode to 0600", path)
    found = tuple(content.decode("utf-8", "replace").split())
    if not found or min(map(len, found)) < MIN_CHARACTERS:
        raise ValueError(f"{path} must have one secret of at least {MIN_CHARACTERS} characters in each line")
    return found


def _make(path: Path) -> None:
    """Create the file `path` with a random secret, unless another process creates it first."""
    # mkstemp creates the file with mode 0600
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE_NAME}-", dir=path.parent)
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
