"""The file of the keys: reading it, noticing changes, and changing it so that neither a crash nor another process that
changes it at the same time damages it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from serverpy.access.key import Key
from serverpy.access.keys import Keys, digest_of, format_key, new_secret, parse_keys
from serverpy.errors import ConfigurationError
from serverpy.locks import wait_for_lock

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Least time between two looks at the file."""
ADMIN = "admin"
"""Name of the first key."""
MAX_BYTES = 16 * 1024 * 1024
Stamp = tuple[int, ...]
"""What tells one state of a file from another."""


class KeyFile:
    """The keys in a file. `current` reads them again if the file has changed. If it cannot be read or is invalid, the
    keys stay as they were, and one error is logged. The constructor raises `ConfigurationError` instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp_of(path)
        self._keys = load(path)
        self._looked = time.monotonic()
        _warn(self._keys)

    async def current(self) -> Keys:
        """Return the keys. At most once in CHECK_SECONDS, look at the file first, in a thread."""
        now = time.monotonic()
        if now - self._looked >= CHECK_SECONDS:
            self._looked = now  # other callers do not wait for this look
            await asyncio.to_thread(self._look)
        return self._keys

    def _look(self) -> None:
        stamp = _stamp_of(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = load(self.path)
        except ConfigurationError as error:
            logger.error("the keys stay as they were: %s", "; ".join(str(error).splitlines()))
            return
        logger.info("read %d keys from %s", len(self._keys), self.path)
        _warn(self._keys)


def load(path: Path) -> Keys:
    """Read the keys from `path`. Raises `ConfigurationError` if the file is missing, unreadable or invalid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"API_KEYS_FILE: {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is too large")
    return _parsed(path, content)


def add(path: Path, make: Callable[[Keys], Key | None]) -> Key | None:
    """Add the key that `make` returns for the keys in the file, which is created if it is missing. Returns that key, or
    None if `make` returns None. Raises `ConfigurationError` if the file is invalid, cannot be written, or has a key of
    that name."""
    with _editing(path, create=True) as text:
        keys = _parsed(path, text.encode())
        key = make(keys)
        if key is None:
            return None
        _refuse_cobalt(path, text)
        if keys.get(key.name) is not None:
            raise ConfigurationError(f"there is already a key {key.name} in {path}")
        _replace(path, f"{text.rstrip()}\n\n{format_key(key)}".lstrip(), [*keys, key])
        return key


def add_first_admin(path: Path) -> str | None:
    """Make a first admin key in the file at `path`, which is created if it is missing. Returns the secret of the key,
    or None if the file already has an admin key. Raises `ConfigurationError` as `add` does."""
    secret = new_secret()

    def make(keys: Keys) -> Key | None:
        if any(key.admin for key in keys):
            return None
        names = (ADMIN, *(f"{ADMIN}-{number}" for number in range(2, len(keys) + 3)))
        name = next(name for name in names if keys.get(name) is None)
        return Key(name=name, digest=digest_of(secret.encode()), admin=True)

    return None if add(path, make) is None else secret


def revoke(path: Path, name: str) -> None:
    """Remove the key `name` from the file. Raises `ConfigurationError` if there is no such key, or if the file is
    invalid or cannot be written."""
    with _editing(path, create=False) as text:
        keys = _parsed(path, text.encode())
        if keys.get(name) is None:
            raise ConfigurationError(f"there is no key {name} in {path}")
        _refuse_cobalt(path, text)
        _replace(path, _without_table(text, f"[keys.{name}]"), [key for key in keys if key.name != name])


def _without_table(text: str, header: str) -> str:
    """Remove the lines from `header` to the next table."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            inside = line.partition("#")[0].strip() == header
        if not inside:
            kept.append(line)
    return "".join(kept)


def _replace(path: Path, text: str, keys: list[Key]) -> None:
    """Write `text`, which has the comments of the old file, if it means exactly `keys`. Otherwise, as after inline
    tables, write the keys alone."""
    try:
        is_right = list(parse_keys(text)) == keys
    except ConfigurationError:
        is_right = False
    _write(path, text if is_right else "\n".join(map(format_key, keys)))


def _parsed(path: Path, content: bytes) -> Keys:
    try:
        return parse_keys(content.decode())
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path}: not UTF-8") from None
    except ConfigurationError as error:
        lines = (f"API_KEYS_FILE: {path}: {line}" for line in str(error).splitlines())
        raise ConfigurationError("\n".join(lines)) from None


def _refuse_cobalt(path: Path, text: str) -> None:
    if text.lstrip().startswith("{"):
        raise ConfigurationError(f"{path} is in cobalt's format, which only cobalt's tools and editors change")


@contextlib.contextmanager
def _editing(path: Path, *, create: bool) -> Iterator[str]:
    """Yield the text of the file while no other process changes it. Raises `ConfigurationError` if the file cannot be
    read or written."""
    try:
        descriptor = _locked(path, create)
        try:
            with open(descriptor, encoding="utf-8", closefd=False, newline="") as file:
                yield file.read()
        finally:
            os.close(descriptor)
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path}: not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"API_KEYS_FILE: {path} cannot be changed: {error.strerror}") from None


def _locked(path: Path, create: bool) -> int:
    """Open and lock the file. While this process waits for the lock, its holder replaces the file by a new one."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        wait_for_lock(descriptor)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Replace the file in one step, also after a crash. The new file belongs to the owner of the old one, who alone may
    read it."""
    path = path.resolve()
    before = path.stat()
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if os.geteuid() == 0:
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stamp_of(path: Path) -> Stamp:
    """Return what changes with the file; nothing of a file that is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _warn(keys: Keys) -> None:
    for warning in keys.warnings:
        logger.warning("%s", warning)
