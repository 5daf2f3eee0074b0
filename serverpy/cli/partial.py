"""The files of incomplete downloads: bytes go to `<name>.part`, and `<name>.part.json` identifies the download. A file
gets its final name only when it is complete and the disk has all of it.

Every partial file in use is locked (flock), so that several processes can write into one folder. An existing file is
never overwritten or truncated, unless it is the partial file of the same download, or `force` is set.

Network and FUSE file systems may refuse locks, the fsync of a directory, or names of more than 143 bytes (eCryptfs).
`get` works without them: it shortens the name, and without locks only jobs in the same process notice that they write
the same file. If two processes create a file of the same name without locks, the second takes another name, but both
may resume the same partial file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

from serverpy.locks import Lock, try_lock
from serverpy.validators import strong_validator

PART = ".part"
STATE = ".part.json"
_NEW = ".new"
_SUFFIX_BYTES = len(STATE + _NEW)
NAME_BYTES = (255, 143, 100, 64)
"""Maximum lengths in bytes of a file name with PART or STATE. `Folder` tries them in this order: the limit of most file
systems, that of eCryptfs, and two shorter ones."""
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Asked(msgspec.Struct, frozen=True):
    """The request that a file is made from. Equal requests get equal bytes, unless the media changes at its server. The
    stored state of a partial file contains only those limits that the request has."""

    url: str
    format: str | None = None
    to: str = "source"
    item: int | None = None
    height: int | Literal["max"] | UnsetType = UNSET
    codec: str | UnsetType = UNSET
    lang: str | UnsetType = UNSET
    max_size: int | UnsetType = UNSET


class Version(msgspec.Struct, frozen=True):
    """The version of the media: its validators and its length in bytes. A value that the media server has not sent is
    None."""

    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """The value for If-Range. None if the media server sent no strong validator."""
        return strong_validator(self.etag, self.last_modified)


class State(msgspec.Struct, frozen=True):
    """The content of `<name>.part.json`: the request and the version of the media."""

    asked: Asked
    version: Version


class InUse(Exception):
    """The exception for media that another process, or another job of this process, is already downloading."""


class Partial:
    """An open, locked partial file. Its owner calls `finish`, `discard` or `close`, and may call `close` again after
    that."""

    def __init__(self, folder: Folder, name: str, descriptor: int, state: State) -> None:
        self._folder = folder
        self._descriptor: int | None = descriptor
        self.name = name
        self.state = state
        self.size = os.fstat(descriptor).st_size

    def tail(self, count: int) -> bytes:
        """Return the last `count` bytes of the file, or the whole file if it is shorter."""
        assert self._descriptor is not None
        return os.pread(self._descriptor, count, max(0, self.size - count))

    def append(self, data: bytes) -> None:
        """Append `data` to the file. If this raises OSError, `size` includes the bytes that were written before the
        error."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def finish(self) -> str:
        """Write the complete file to the disk, rename it to its final name, and return that name. Blocks until the disk
        has the data."""
        assert self._descriptor is not None
        _sync(self._descriptor)
        name = self._folder.free_name(self.name)
        os.replace(self._folder.part(self.name), self._folder.path / name)
        self._folder.state(self.name).unlink(missing_ok=True)
        self._folder.sync()
        self._release()
        return name

    def discard(self) -> None:
        """Remove the partial file and its state file (`<name>.part.json`)."""
        if self._descriptor is not None:
            self._folder.part(self.name).unlink(missing_ok=True)
            self._folder.state(self.name).unlink(missing_ok=True)
        self._release()

    def close(self) -> None:
        """Close the partial file so that a later run can resume it. Removes the file if it is empty. Idempotent."""
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
    """The directory for downloaded files, created if missing. `since` is the time (seconds since the epoch) at which
    `get` began: a file that was completed later is never overwritten, not even with `force`."""

    def __init__(self, path: Path, *, force: bool, since: float) -> None:
        self.path = path
        self._force = force
        self._since = since
        self._in_use: set[str] = set()
        """Names of the partial files that this process has open."""
        path.mkdir(parents=True, exist_ok=True)
        self._name_bytes = _longest_name(path)

    def close(self) -> None:
        """Do nothing. A folder has the interface of `outputs.py::Standard`, but keeps no descriptor open."""

    def part(self, name: str) -> Path:
        return self.path / f"{name}{PART}"

    def state(self, name: str) -> Path:
        return self.path / f"{name}{STATE}"

    def find(self, asked: Asked) -> Partial | None:
        """Open the partial file that an earlier run of this download has left. Returns None if there is no such file.
        If `force` is true, removes the file, and returns None. Raises `InUse` if the partial file is locked."""
        for path in sorted(self.path.glob(f"*{STATE}")):
            state = _read(path)
            if state is None or state.asked != asked:
                continue
            name = path.name.removesuffix(STATE)
            descriptor = self._open(name, create=False)
            if descriptor is None:
                if self.part(name).exists():
                    raise InUse
                path.unlink(missing_ok=True)  # another process has completed or deleted the partial file
                continue
            partial = Partial(self, name, descriptor, state)
            if not self._force:
                return partial
            partial.discard()
        return None

    def claim(self, name: str, asked: Asked, version: Version, first: bytes) -> Partial | str:
        """Create an empty partial file for a file `name`. The name is shortened if the file system refuses it, and gets
        a number if a different file has this name. If an existing file has the expected size and begins with the bytes
        `first`, that file is taken to be the complete download, and its name is returned instead."""
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
            if partial.size:  # this partial file belongs to another download, perhaps of another program
                partial.close()
                continue
            try:
                _write(self.state(candidate), state)
            except BaseException:
                partial.discard()
                raise
            return partial
        raise AssertionError("unreachable: the loop never runs out of names")

    def free_name(self, name: str) -> str:
        """Return the final name of a file: `name`, or `name` with a number if a different file of that name now
        exists."""
        return next(
            each
            for each in self._numbered(name)
            if not (self.path / each).exists() or self._may_overwrite(self.path / each)
        )

    def sync(self) -> None:
        """Write the directory's entries to the disk, if the file system supports that."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def leave(self, name: str) -> None:
        """Record that this process has closed the partial file of `name`."""
        self._in_use.discard(name)

    def _open(self, name: str, *, create: bool) -> int | None:
        """Open and lock the partial file of `name`, and return its descriptor. Returns None if it is in use, or does
        not exist."""
        descriptor = None if name in self._in_use else _lock(self.part(name), create=create)
        if descriptor is not None:
            self._in_use.add(name)
        return descriptor

    def _may_overwrite(self, path: Path) -> bool:
        return self._force and path.is_file() and path.stat().st_ctime < self._since

    def _numbered(self, name: str) -> Iterator[str]:
        return numbered(name, self._name_bytes - _SUFFIX_BYTES)


def numbered(name: str, most_bytes: int = NAME_BYTES[0]) -> Iterator[str]:
    """Yield `film.mp4`, `film (2).mp4`, `film (3).mp4` … The stem is shortened so that a name has at most `most_bytes`
    bytes in UTF-8."""
    path = Path(name)
    for number in itertools.count(1):
        end = f" ({number}){path.suffix}" if number > 1 else path.suffix
        stem = path.stem.encode()[: max(1, most_bytes - len(end.encode()))].decode(errors="ignore")
        yield f"{stem if stem == path.stem else stem.rstrip(' .')}{end}"


def _longest_name(folder: Path) -> int:
    """Return the maximum length of a file name in `folder`, in bytes, as the file system reports it."""
    try:
        return min(os.pathconf(folder, "PC_NAME_MAX"), NAME_BYTES[0])
    except OSError:
        return NAME_BYTES[0]


def _sync(descriptor: int) -> None:
    """Flush the file's data to the disk (fsync), if the file system supports it."""
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
    """Open and lock the file at `path`, and return its descriptor. Returns None if another job has locked the file, or
    if the file does not exist and `create` is false. On a file system without locks, an existing file counts as locked
    if `create` is true."""
    while (opened := _opened(path, create=create)) is not None:
        descriptor, is_new = opened
        lock = try_lock(descriptor)
        if lock is Lock.TAKEN or (lock is Lock.UNSUPPORTED and create and not is_new):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # another process renamed or removed the file before this process locked it
    return None


def _opened(path: Path, *, create: bool) -> tuple[int, bool] | None:
    """Open the file at `path`. Returns the descriptor, and whether the file is new. Returns None if the file does not
    exist and `create` is false."""
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
    """Read a state file. Returns None if it is missing or invalid."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        return None


def _write(path: Path, state: State) -> None:
    """Write a state file atomically."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(state))
    os.replace(fresh, path)
