"""Files under construction: bytes go to `<name>.part`, and `<name>.part.json` says what they are part of. Only a
complete file gets the name itself, once the disk has all of it.

Every part in use is locked (flock), so that processes that write into one folder at once keep out of each other's way.
No file that is there is overwritten or cut short, unless it is the part of the very thing that is fetched, or `force`
says so.
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
    """What a file is made of: two that ask the same get the same bytes, as far as the source is the same."""

    url: str
    format: str | None = None
    to: str = "source"
    item: int | None = None


class Version(msgspec.Struct, frozen=True):
    """What the source said of its bytes."""

    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """For If-Range."""
        return strong_validator(self.etag, self.last_modified)


class State(msgspec.Struct, frozen=True):
    """The content of `<name>.part.json`."""

    asked: Asked
    version: Version


class InUse(Exception):
    """Another process, or another job of this one, fetches the same."""


class Partial:
    """An open, locked part. Its owner calls `finish`, `discard` or `close`; `close` is harmless after each of them."""

    def __init__(self, folder: Folder, name: str, descriptor: int, state: State) -> None:
        self._folder = folder
        self._descriptor: int | None = descriptor
        self.name = name
        self.state = state
        self.size = os.fstat(descriptor).st_size

    def tail(self, count: int) -> bytes:
        """The last `count` bytes, or all if there are fewer."""
        assert self._descriptor is not None
        return os.pread(self._descriptor, count, max(0, self.size - count))

    def append(self, data: bytes) -> None:
        """Raises OSError; what was written until then counts."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def finish(self) -> str:
        """Give it its name, which is returned, once the disk has all of it. Blocks as long as the disk takes."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        name = self._folder.free_name(self.name)
        os.replace(self._folder.part(self.name), self._folder.path / name)
        self._folder.state(self.name).unlink(missing_ok=True)
        self._folder.sync()
        self._release()
        return name

    def discard(self) -> None:
        """As if it had never been."""
        if self._descriptor is not None:
            self._folder.part(self.name).unlink(missing_ok=True)
            self._folder.state(self.name).unlink(missing_ok=True)
        self._release()

    def close(self) -> None:
        """Leave it to be resumed; without a byte there is nothing to resume."""
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
    """Where the files go; made if it is not there. `since` is the time (seconds since the epoch) at which the whole run
    began: what was completed later is never overwritten, not even by force."""

    def __init__(self, path: Path, *, force: bool, since: float) -> None:
        self.path = path
        self._force = force
        self._since = since
        path.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Do nothing: a folder has the shape of `outputs.py::Standard`, and nothing is open between two files."""

    def part(self, name: str) -> Path:
        return self.path / f"{name}{PART}"

    def state(self, name: str) -> Path:
        return self.path / f"{name}{STATE}"

    def find(self, asked: Asked) -> Partial | None:
        """The part of what is asked, if a run before left one; by force it is thrown away. Raises `InUse`."""
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
        """An empty part for a file of that name, or of the name with a number where another file has it. Or the name of
        the file that is these bytes already, as far as its size and its `first` bytes tell."""
        for candidate in numbered(name):
            path = self.path / candidate
            if path.exists() and not self._may_overwrite(path):
                if _is_same(path, version.total, first):
                    return candidate
                continue
            descriptor = _lock(self.part(candidate), create=True)
            if descriptor is None:
                continue
            if os.fstat(descriptor).st_size:  # somebody's part, perhaps not even ours
                os.close(descriptor)
                continue
            state = State(asked, version)
            _write(self.state(candidate), state)
            return Partial(self, candidate, descriptor, state)
        raise AssertionError("the numbers never end")

    def free_name(self, name: str) -> str:
        """`name`, or with a number if another file has come to have it meanwhile."""
        return next(
            each for each in numbered(name) if not (self.path / each).exists() or self._may_overwrite(self.path / each)
        )

    def sync(self) -> None:
        """Have the disk know the names."""
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
    """A locked descriptor of the file that has this path; None if it is locked already, or not there."""
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
    """None for a file that is not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        return None


def _write(path: Path, state: State) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(state))
    os.replace(fresh, path)
