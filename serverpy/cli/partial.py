"""Incomplete files: bytes go to `<name>.part`, and `<name>.part.json` says what they are part of. A file gets its own
name only when it is complete and the disk has all of it.

Every part in use is locked (flock), so that several processes can write into one folder. An existing file is never
overwritten or truncated, unless it is the part of the same download, or `force` is set.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from serverpy.validators import strong_validator

PART = ".part"
STATE = ".part.json"


class Asked(msgspec.Struct, frozen=True):
    """The request that a file is made from: equal requests get equal bytes, as long as the source does not change."""

    url: str
    format: str | None = None
    to: str = "source"
    item: int | None = None


class Version(msgspec.Struct, frozen=True):
    """What the source said about its bytes."""

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
    """Another process, or another job of this one, downloads the same."""


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
        """Append `data`. If it raises OSError, the bytes written before count."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def finish(self) -> str:
        """Write the file to the disk and give it its name, which is returned. Blocks as long as the disk takes."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
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
        path.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Do nothing: a folder has the interface of `outputs.py::Standard`, but keeps nothing open."""

    def part(self, name: str) -> Path:
        return self.path / f"{name}{PART}"

    def state(self, name: str) -> Path:
        return self.path / f"{name}{STATE}"

    def find(self, asked: Asked) -> Partial | None:
        """Find the part that an earlier run left of what is asked, or discard it with `force`. Returns None if there is
        none (any more). Raises `InUse` if it is locked."""
        for path in sorted(self.path.glob(f"*{STATE}")):
            state = _read(path)
            if state is None or state.asked != asked:
                continue
            name = path.name.removesuffix(STATE)
            descriptor = _lock(self.part(name), create=False)
            if descriptor is None:
                if self.part(name).exists():
                    raise InUse
                path.unlink(missing_ok=True)  # its part has become a file, or has been deleted
                continue
            partial = Partial(self, name, descriptor, state)
            if not self._force:
                return partial
            partial.discard()
        return None

    def claim(self, name: str, asked: Asked, version: Version, first: bytes) -> Partial | str:
        """Create an empty part for a file of that name, with a number added if another file has the name. Returns the
        name of an existing file instead if it has these bytes, as far as its size and its `first` bytes tell."""
        for candidate in numbered(name):
            path = self.path / candidate
            if path.exists() and not self._may_overwrite(path):
                if _is_same(path, version.total, first):
                    return candidate
                continue
            descriptor = _lock(self.part(candidate), create=True)
            if descriptor is None:
                continue
            if os.fstat(descriptor).st_size:  # the part of another download, perhaps of another program
                os.close(descriptor)
                continue
            state = State(asked, version)
            _write(self.state(candidate), state)
            return Partial(self, candidate, descriptor, state)
        raise AssertionError("the numbers never end")

    def free_name(self, name: str) -> str:
        """Return `name`, with a number added if another file has taken it meanwhile."""
        return next(
            each for each in numbered(name) if not (self.path / each).exists() or self._may_overwrite(self.path / each)
        )

    def sync(self) -> None:
        """Write the names to the disk."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _may_overwrite(self, path: Path) -> bool:
        return self._force and path.is_file() and path.stat().st_ctime < self._since


def numbered(name: str) -> Iterator[str]:
    """`film.mp4`, `film (2).mp4`, `film (3).mp4` …"""
    yield name
    path = Path(name)
    for number in itertools.count(2):
        yield f"{path.stem} ({number}){path.suffix}"


def _is_same(path: Path, total: int | None, first: bytes) -> bool:
    if not path.is_file() or (total is not None and path.stat().st_size != total):
        return False
    with path.open("rb") as file:
        return file.read(len(first)) == first


def _lock(path: Path, *, create: bool) -> int | None:
    """Open and lock the file at `path`. Returns None if it is locked already, or does not exist."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # renamed or removed between the two calls: look again


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: Path) -> State | None:
    """Read a state. Returns None if the file is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        return None


def _write(path: Path, state: State) -> None:
    """Write all of it or nothing."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(state))
    os.replace(fresh, path)
