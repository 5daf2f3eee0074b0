"""Functions that read and change the file with the API keys. A server notices changes of the file while it runs.
Changes by `serverpy keys` are atomic and locked: neither a crash nor a second process that changes the file damages
it."""

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
from serverpy.tasks import spawn

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Minimum time, in seconds, between two checks for changes of the file."""
ADMIN = "admin"
"""Name of the admin key that `serverpy serve --create-key` creates."""
MAX_BYTES = 16 * 1024 * 1024
Stamp = tuple[int, ...]
"""Device, inode, size and times of a file, which differ after a change. Empty if the file cannot be examined."""


class KeyFile:
    """The API keys in a file. `current` reads the file again if it has changed. If the changed file is unreadable or
    invalid, the previous keys stay in effect, and the server logs one error. The constructor raises
    `ConfigurationError` if the file is unreadable or invalid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp_of(path)
        self._keys = load(path)
        self._looked = time.monotonic()
        self._looking: asyncio.Task[None] | None = None
        _warn(self._keys)

    async def current(self) -> Keys:
        """Return the keys. If the last check is at least CHECK_SECONDS old, first checks in a thread whether the file
        has changed. Concurrent callers wait for the same check."""
        now = time.monotonic()
        if self._looking is None and now - self._looked >= CHECK_SECONDS:
            self._looked = now
            self._looking = spawn(self._look_in_thread(), name="check the keys file")
        if self._looking is not None:
            await asyncio.shield(self._looking)
        return self._keys

    async def _look_in_thread(self) -> None:
        try:
            await asyncio.to_thread(self._look)
        finally:
            self._looking = None

    def _look(self) -> None:
        stamp = _stamp_of(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = load(self.path)
        except ConfigurationError as error:
            logger.error(
                "the previous API keys stay in effect until the keys file is corrected: %s",
                "; ".join(str(error).splitlines()),
            )
            return
        logger.info("read %d API keys from %s", len(self._keys), self.path)
        _warn(self._keys)


def load(path: Path) -> Keys:
    """Read the API keys from the file `path`. Raises `ConfigurationError` if it is missing, unreadable or invalid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"API_KEYS_FILE: {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is too large: the maximum is {MAX_BYTES} bytes")
    return _parsed(path, content)


def add(path: Path, make: Callable[[Keys], Key | None], show: Callable[[], None] = lambda: None) -> Key | None:
    """Add an API key to the file `path`, which is created if it is missing. `make` receives the keys in the file, and
    returns the key to add, or None to add no key. Returns what `make` returns. `show` is called before the file
    changes, and shows the secret of the key to its owner. If `show` raises an error, the file does not change, because
    otherwise it would contain a valid key whose secret nobody knows. Raises `ConfigurationError` if the file is
    invalid, is in cobalt's format, cannot be read or written, or already has a key with the same name."""
    with _editing(path, create=True) as text:
        keys = _parsed(path, text.encode())
        key = make(keys)
        if key is None:
            return None
        _refuse_cobalt(path, text)
        if keys.get(key.name) is not None:
            raise ConfigurationError(f"there is already a key {key.name} in {path}: revoke it, or choose another name")
        show()
        _replace(path, f"{text.rstrip()}\n\n{format_key(key)}".lstrip(), [*keys, key])
        return key


def add_first_admin(path: Path, show: Callable[[str], None] = lambda _secret: None) -> str | None:
    """Add an admin key to the file `path`, which is created if it is missing. Returns the secret of the new key. `show`
    is called with the secret before the file changes; if `show` raises an error, the file does not change. Returns
    None, without a change, if the file already has an admin key. Raises `ConfigurationError` if the file is
    invalid, is in cobalt's format, or cannot be read or written."""
    secret = new_secret()

    def make(keys: Keys) -> Key | None:
        if any(key.admin for key in keys):
            return None
        names = (ADMIN, *(f"{ADMIN}-{number}" for number in range(2, len(keys) + 3)))
        name = next(name for name in names if keys.get(name) is None)
        return Key(name=name, digest=digest_of(secret.encode()), admin=True)

    return None if add(path, make, lambda: show(secret)) is None else secret


def revoke(path: Path, name: str) -> None:
    """Remove the API key `name` from the file `path`. Raises `ConfigurationError` if the file has no such key, is
    invalid, is in cobalt's format, or cannot be read or written."""
    with _editing(path, create=False) as text:
        keys = _parsed(path, text.encode())
        if keys.get(name) is None:
            raise ConfigurationError(f"there is no key {name} in {path}: `serverpy keys list` shows the names")
        _refuse_cobalt(path, text)
        _replace(path, _without_table(text, f"[keys.{name}]"), [key for key in keys if key.name != name])


def _without_table(text: str, header: str) -> str:
    """Return the TOML `text` without the table that begins with the line `header`. The comment lines directly above the
    next table belong to that table."""
    kept: list[str] = []
    comments: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        start = line.lstrip()[:1]
        if start == "[":
            inside = line.partition("#")[0].strip() == header
            kept += [] if inside else comments
        comments = [*comments, line] if inside and start == "#" else []
        if not inside:
            kept.append(line)
    return "".join(kept)


def _replace(path: Path, text: str, keys: list[Key]) -> None:
    """If `parse_keys` reads exactly `keys` from `text`, write `text`, which preserves the comments of the old file.
    Otherwise, for example because the old file has inline tables, write `keys` without comments."""
    try:
        is_right = list(parse_keys(text)) == keys
    except ConfigurationError:
        is_right = False
    _write(path, text if is_right else "\n".join(map(format_key, keys)))


def _parsed(path: Path, content: bytes) -> Keys:
    try:
        return parse_keys(content.decode())
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is not UTF-8: save it as UTF-8") from None
    except ConfigurationError as error:
        lines = (f"API_KEYS_FILE: {path}: {line}" for line in str(error).splitlines())
        raise ConfigurationError("\n".join(lines)) from None
    except (ValueError, RecursionError):  # the parsers of TOML and JSON raise these errors
        raise ConfigurationError(
            f"API_KEYS_FILE: {path}: a value is nested too deeply, or a number has too many digits"
        ) from None


def _refuse_cobalt(path: Path, text: str) -> None:
    if text.lstrip().startswith("{"):
        raise ConfigurationError(f"{path} is in cobalt's format, which ServerPY does not change: edit the file by hand")


@contextlib.contextmanager
def _editing(path: Path, *, create: bool) -> Iterator[str]:
    """Yield the text of the file `path` while this process holds the lock on it, so that no other ServerPY process
    changes it. With `create`, a missing file is created. Raises `ConfigurationError` if the file cannot be read or
    written, or is not UTF-8."""
    try:
        descriptor = _locked(path, create)
        try:
            with open(descriptor, encoding="utf-8", closefd=False, newline="") as file:
                yield file.read()
        finally:
            os.close(descriptor)
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"API_KEYS_FILE: {path} cannot be changed: {error.strerror}") from None


def _locked(path: Path, create: bool) -> int:
    """Open and lock the file `path`, and return its descriptor. If another process replaces the file while this process
    waits for the lock, opens and locks the new file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        wait_for_lock(descriptor)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Replace the file atomically: even after a crash, it is either the old file or the complete new one. The new file
    has mode 0600. If this process runs as root, the owner of the file does not change."""
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
    """Return the device, inode, size and times of the file, which differ after a change. Returns an empty tuple if the
    file cannot be examined."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _warn(keys: Keys) -> None:
    for warning in keys.warnings:
        logger.warning("%s", warning)
