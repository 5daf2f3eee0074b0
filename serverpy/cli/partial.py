"""Incomplete files: bytes go to `<name>.part`, and `<name>.part.json` identifies the download. A file gets its own name
only when it is complete and the disk has all of it.

Every part in use is locked (flock), so that several processes can write into one folder. An existing file is never
overwritten or truncated, unless it is the part of the same download, or `force` is set.

Network and FUSE file systems may refuse locks, the fsync of a directory, or names of more than 143 bytes (eCryptfs).
`get` works without them: it shortens the name, and without locks only the jobs of one process notice each other. Of two
processes that begin the same name, the second takes another name, but both may resume the same part.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from serverpy.locks import Lock, try_lock
from serverpy.validators import strong_validator

PART = ".part"
STATE = ".part.json"
_NEW = ".new"
_SUFFIX_BYTES = len(STATE + _NEW)
NAME_BYTES = (255, 143, 100, 64)
"""Maximum lengths in bytes of a name with PART and STATE, which are tried in turn: that of most file systems, that of
eCryptfs, and two shorter ones."""
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Asked(msgspec.Struct, frozen=True):
    """The request that a file is made from: equal requests get equal bytes, as long as the source does not change."""

    url: str
    format: str | None = None
    to: str = "source"
    item: int | None = None


class Version(msgspec.Struct, frozen=True):
    """The facts that the source gave about its bytes."""

    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """The value for If-Range."""
        return strong_validator(self.etag, self.last_modified)


class State(msgspec.Struct, frozen=True):
    """The content of `<name>.part.json`."""

    asked: Asked
    version: Version


class InUse(Exception):
    """Another process, or another job of this one, downloads the same media."""


class Partial:
    """An open, locked part. Its owner calls `finish`, `discard` or `close`; `close` may follow each of them."""

    def __init__(self, folder: Folder, name: str, descriptor: int, state: State) -> None:
        self._folder = folder
        self._descriptor: int | None = descriptor
        self.name = name
        self.state = state
        self.size = os.fstat(descriptor).st_size

    def tail(self, count: int) -> bytes:
        """Return the last `count` bytes, or all if there are fewer."""
        assert self._descriptor is not None
        return os.pread(self._descriptor, count, max(0, self.size - count))

    def append(self, data: bytes) -> None:
        """Append `data`. If this raises OSError, `size` includes the bytes written before the error."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def finish(self) -> str:
        """Write the file to the disk, give it its name and return the name. Blocks as long as the disk takes."""
        assert self._descriptor is not None
        _sync(self._descriptor)
        name = self._folder.free_name(self.name)
        os.replace(self._folder.part(self.name), self._folder.path / name)
        self._folder.state(self.name).unlink(missing_ok=True)
        self._folder.sync()
        self._release()
        return name

    def discard(self) -> None:
        """Remove the part and its state."""
        if self._descriptor is not None:
            self._folder.part(self.name).unlink(missing_ok=True)
            self._folder.state(self.name).unlink(missing_ok=True)
        self._release()

    def close(self) -> None:
        """Close the part so that it can be resumed later; remove it if it is empty."""
        if self.size:
            self._release()
        else:
            self.discard()

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._folder.leave(self.name)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Folder:
    """The directory of the files, created if missing. `since` is the time (seconds since the epoch) at which the whole
    run began: a file completed later is never overwritten, not even with `force`."""

    def __init__(self, path: Path, *, force: bool, since: float) -> None:
        self.path = path
        self._force = force
        self._since = since
        self._in_use: set[str] = set()
        """Names of the parts that this process has open."""
        path.mkdir(parents=True, exist_ok=True)
        self._name_bytes = _longest_name(path)

    def close(self) -> None:
        """Do nothing: a folder has the interface of `outputs.py::Standard`, but keeps nothing open."""

    def part(self, name: str) -> Path:
        return self.path / f"{name}{PART}"

    def state(self, name: str) -> Path:
        return self.path / f"{name}{STATE}"

    def find(self, asked: Asked) -> Partial | None:
        """Open the part that an earlier run left of this download, or discard it if `force` is set. Returns None if no
        part is left. Raises `InUse` if the part is locked."""
        for path in sorted(self.path.glob(f"*{STATE}")):
            state = _read(path)
            if state is None or state.asked != asked:
                continue
            name = path.name.removesuffix(STATE)
            descriptor = self._open(name, create=False)
            if descriptor is None:
                if self.part(name).exists():
                    raise InUse
                path.unlink(missing_ok=True)  # another process has finished or deleted the part
                continue
            partial = Partial(self, name, descriptor, state)
            if not self._force:
                return partial
            partial.discard()
        return None

    def claim(self, name: str, asked: Asked, version: Version, first: bytes) -> Partial | str:
        """Create an empty part for a file of that name, shortened if the file system refuses it, and with a number
        added if another file has the name. Returns the name of an existing file instead if its size and its `first`
        bytes match."""
        while True:
            try:
                return self._claim(name, State(asked, version), first)
            except OSError as error:
                shorter = [each for each in NAME_BYTES if each < self._name_bytes]
                if error.errno != errno.ENAMETOOLONG or not shorter:
                    raise
                self._name_bytes = shorter[0]

    def _claim(self, name: str, state: State, first: bytes) -> Partial | str:
        for candidate in self._numbered(name):
            path = self.path / candidate
            if path.exists() and not self._may_overwrite(path):
                if _is_same(path, state.version.total, first):
                    return candidate
                continue
            descriptor = self._open(candidate, create=True)
            if descriptor is None:
                continue
            partial = Partial(self, candidate, descriptor, state)
            if partial.size:  # this part belongs to another download, perhaps of another program
                partial.close()
                continue
            try:
                _write(self.state(candidate), state)
            except BaseException:
                partial.discard()
                raise
            return partial
        raise AssertionError("unreachable: the names are endless")

    def free_name(self, name: str) -> str:
        """Return `name`, with a number added if another file has taken it meanwhile."""
        return next(
            each
            for each in self._numbered(name)
            if not (self.path / each).exists() or self._may_overwrite(self.path / each)
        )

    def sync(self) -> None:
        """Write the directory to the disk, if the file system supports that."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def leave(self, name: str) -> None:
        """Record that this process has closed the part of that name."""
        self._in_use.discard(name)

    def _open(self, name: str, *, create: bool) -> int | None:
        """Open and lock the part of that name. Returns None if it is in use, or does not exist."""
        descriptor = None if name in self._in_use else _lock(self.part(name), create=create)
        if descriptor is not None:
            self._in_use.add(name)
        return descriptor

    def _may_overwrite(self, path: Path) -> bool:
        return self._force and path.is_file() and path.stat().st_ctime < self._since

    def _numbered(self, name: str) -> Iterator[str]:
        return numbered(name, self._name_bytes - _SUFFIX_BYTES)


def numbered(name: str, most_bytes: int = NAME_BYTES[0]) -> Iterator[str]:
    """Yield `film.mp4`, `film (2).mp4`, `film (3).mp4` … A name longer than `most_bytes` in UTF-8 is shortened before
    its number."""
    path = Path(name)
    for number in itertools.count(1):
        end = f" ({number}){path.suffix}" if number > 1 else path.suffix
        stem = path.stem.encode()[: max(1, most_bytes - len(end.encode()))].decode(errors="ignore")
        yield f"{stem if stem == path.stem else stem.rstrip(' .')}{end}"


def _longest_name(folder: Path) -> int:
    """Return the maximum length of a name in `folder`, in bytes, as the file system reports it."""
    try:
        return min(os.pathconf(folder, "PC_NAME_MAX"), NAME_BYTES[0])
    except OSError:
        return NAME_BYTES[0]


def _sync(descriptor: int) -> None:
    """Write the file to the disk, if the file system supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _is_same(path: Path, total: int | None, first: bytes) -> bool:
    if not path.is_file() or (total is not None and path.stat().st_size != total):
        return False
    with path.open("rb") as file:
        return file.read(len(first)) == first


def _lock(path: Path, *, create: bool) -> int | None:
    """Open and lock the file at `path`. Returns None if it is locked already or does not exist. On a file system
    without locks, a file to be created counts as locked if it exists."""
    while (opened := _opened(path, create=create)) is not None:
        descriptor, is_new = opened
        lock = try_lock(descriptor)
        if lock is Lock.TAKEN or (lock is Lock.UNSUPPORTED and create and not is_new):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # another process has renamed or removed the file before the lock
    return None


def _opened(path: Path, *, create: bool) -> tuple[int, bool] | None:
    """Open the file at `path`. Returns the descriptor, and whether the file is new; None if it does not exist."""
    flags = os.O_RDWR | os.O_CLOEXEC
    if create:
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags), False
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: Path) -> State | None:
    """Read a state. Returns None if the file holds no valid state."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        return None


def _write(path: Path, state: State) -> None:
    """Write a state atomically."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(state))
    os.replace(fresh, path)
