"""Tests of partial files, and of the choice of file names in a folder to which several processes write at once. Each
process may be killed at any time."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serverpy.cli.partial import Asked, Folder, InUse, Partial, Version, numbered
from tests.cli.commands import names

ASKED = Asked("http://example.org/1")
OTHER = Asked("http://example.org/2")


def folder(path: Path, *, force: bool = False, since: float = 0) -> Folder:
    return Folder(path, force=force, since=since)


def claim(path: Path, asked: Asked = ASKED, *, total: int | None = None, first: bytes = b"first") -> Partial | str:
    return folder(path).claim("film.mp4", asked, Version(total=total), first)


def claimed(path: Path, asked: Asked = ASKED) -> Partial:
    partial = claim(path, asked)
    assert isinstance(partial, Partial)
    return partial


def test_a_file_gets_its_final_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"one ")
        partial.append(b"two")
        assert partial.tail(3) == b"two"
        assert names(tmp_path) == ["film.mp4.part", "film.mp4.part.json"]
        assert partial.finish() == "film.mp4"
    assert names(tmp_path) == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"one two"


def test_a_partial_file_without_bytes_is_removed(tmp_path: Path) -> None:
    claimed(tmp_path).close()
    assert names(tmp_path) == []


def test_a_partial_file_is_found_by_the_url_and_format_of_its_request(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"data")
    assert folder(tmp_path).find(OTHER) is None
    found = folder(tmp_path).find(ASKED)
    assert found is not None
    with found:
        assert (found.name, found.size, found.tail(10)) == ("film.mp4", 4, b"data")


def test_another_process_can_neither_resume_a_partial_file_that_is_in_use_nor_take_its_name(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        with pytest.raises(InUse):
            folder(tmp_path).find(ASKED)
        with claimed(tmp_path, OTHER) as second:
            assert (partial.name, second.name) == ("film.mp4", "film (2).mp4")


def test_get_does_not_overwrite_a_partial_file_of_another_program(tmp_path: Path) -> None:
    """Not only `get` but also yt-dlp gives partial files the suffix `.part`."""
    (tmp_path / "film.mp4.part").write_bytes(b"yt-dlp's")
    with claimed(tmp_path) as partial:
        partial.append(b"ours")
        assert partial.finish() == "film (2).mp4"
    assert (tmp_path / "film.mp4.part").read_bytes() == b"yt-dlp's"


def test_a_state_file_without_a_partial_file_is_removed(tmp_path: Path) -> None:
    """A process may be killed between the removal of the partial file and that of the state file."""
    with claimed(tmp_path) as partial:
        partial.append(b"data")
    (tmp_path / "film.mp4.part").unlink()
    assert folder(tmp_path).find(ASKED) is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"asked": 1}', b"\xff"])
def test_an_invalid_state_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "film.mp4.part.json").write_bytes(content)
    assert folder(tmp_path).find(ASKED) is None
    assert names(tmp_path) == ["film.mp4.part.json"]


@pytest.mark.parametrize(("total", "first", "same"), [
    (None, b"first", True),
    (11, b"first", True),
    (12, b"first", False),
    (11, b"other", False),
    (None, b"first bytes and more", False),
])  # fmt: skip
def test_an_existing_file_counts_as_the_requested_file_if_its_size_and_first_bytes_match(
    tmp_path: Path, total: int | None, first: bytes, same: bool
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"first bytes")
    found = claim(tmp_path, total=total, first=first)
    if isinstance(found, Partial):
        found.close()
    assert (found == "film.mp4") == same


def test_get_does_not_overwrite_a_file_that_another_program_creates_during_the_download(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"ours")
        (tmp_path / "film.mp4").write_bytes(b"theirs")
        assert partial.finish() == "film (2).mp4"
    assert (tmp_path / "film.mp4").read_bytes() == b"theirs"


def test_the_option_force_overwrites_only_files_that_are_older_than_the_run(tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"old")
    made = file.stat().st_ctime
    for since, name, data in ((made + 1, "film.mp4", b"new"), (made - 1, "film (2).mp4", b"other")):
        partial = folder(tmp_path, force=True, since=since).claim("film.mp4", ASKED, Version(), data)
        assert isinstance(partial, Partial)
        with partial:
            partial.append(data)
            assert partial.name == partial.finish() == name
    assert file.read_bytes() == b"new"


def test_the_option_force_removes_the_partial_file_of_an_earlier_run(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"data")
    assert folder(tmp_path, force=True).find(ASKED) is None
    assert names(tmp_path) == []


def test_a_partial_file_is_validated_by_its_strong_etag_or_else_by_last_modified() -> None:
    assert Version(etag='"a"', last_modified="then").validator == '"a"'
    assert Version(etag='W/"a"', last_modified="then").validator == "then"
    assert Version(etag='W/"a"').validator is None


def test_the_number_of_a_duplicate_file_name_precedes_the_extension() -> None:
    assert [name for _, name in zip(range(3), numbered("a.b.mp4"), strict=False)] == [
        "a.b.mp4",
        "a.b (2).mp4",
        "a.b (3).mp4",
    ]


@pytest.mark.parametrize(
    ("name", "most_bytes", "expected"),
    [
        ("film.mp4", 8, ["film.mp4", "f (2).mp4"]),
        ("film.mp4", 7, ["fil.mp4", "f (2).mp4"]),
        ("größer.mp4", 12, ["größer.mp4", "grö (2).mp4"]),
        ("größer.mp4", 8, ["grö.mp4", "g (2).mp4"]),
        ("größer.mp4", 7, ["gr.mp4", "g (2).mp4"]),
        ("a b c.mp4", 6, ["a.mp4", "a (2).mp4"]),
        ("\U0001f3a5\U0001f3a5.webm", 12, ["\U0001f3a5.webm", " (2).webm"]),
    ],
)
def test_a_long_file_name_is_shortened_in_the_part_before_its_number(
    name: str, most_bytes: int, expected: list[str]
) -> None:
    assert [each for _, each in zip(range(2), numbered(name, most_bytes), strict=False)] == expected


# Tests of file systems that refuse operations. They patch `os` and `fcntl`, because mounting such file systems would
# need root.


def refusing(call: Callable[..., Any], number: int, when: Callable[..., bool]) -> Callable[..., Any]:
    """Return a version of `call` that raises OSError with errno `number` if `when` returns True for the arguments, and
    otherwise calls `call`."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            raise OSError(number, os.strerror(number))
        return call(*args, **kwargs)

    return refuse


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(fcntl.flock, request.param, lambda *_: True))


@pytest.mark.usefixtures("no_locks")
def test_a_file_can_be_written_and_resumed_on_a_file_system_without_file_locks(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"one ")
    with claimed(tmp_path, OTHER) as second:
        assert second.name == "film (2).mp4"
    found = folder(tmp_path).find(ASKED)
    assert found is not None
    with found:
        found.append(b"two")
        assert found.finish() == "film.mp4"
    assert (tmp_path / "film.mp4").read_bytes() == b"one two"
    assert names(tmp_path) == ["film.mp4"]


@pytest.mark.usefixtures("no_locks")
def test_without_file_locks_a_second_process_chooses_another_file_name(tmp_path: Path) -> None:
    with claimed(tmp_path) as first, claimed(tmp_path, OTHER) as second:
        assert (first.name, second.name) == ("film.mp4", "film (2).mp4")


@pytest.mark.usefixtures("no_locks")
def test_without_file_locks_a_partial_file_that_the_same_process_has_open_counts_as_in_use(tmp_path: Path) -> None:
    here = folder(tmp_path)
    partial = here.claim("film.mp4", ASKED, Version(), b"first")
    assert isinstance(partial, Partial)
    with partial:
        partial.append(b"data")
        with pytest.raises(InUse):
            here.find(ASKED)
    found = here.find(ASKED)
    assert found is not None
    found.close()


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize(
    ("number", "when"),
    [(errno.EINVAL, lambda _: True), (errno.ENOTSUP, lambda _: True), (errno.EIO, is_directory)],
)
def test_a_download_is_completed_on_file_systems_without_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, when: Callable[..., bool]
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number, when))
    with claimed(tmp_path) as partial:
        partial.append(b"data")
        assert partial.finish() == "film.mp4"


def test_a_file_keeps_its_partial_name_if_fsync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, errno.EIO, lambda _: True))
    with claimed(tmp_path) as partial:
        partial.append(b"data")
        with pytest.raises(OSError, match="Input/output error"):
            partial.finish()
    assert names(tmp_path) == ["film.mp4.part", "film.mp4.part.json"]


@pytest.mark.parametrize("most_bytes", [143, 120])
@pytest.mark.parametrize("title", ["a" * 200, "größer als die anderen " * 8])
def test_a_file_name_that_the_file_system_finds_too_long_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, most_bytes: int
) -> None:
    too_long = lambda path, *_: len(os.fsencode(Path(path).name)) > most_bytes  # noqa: E731
    monkeypatch.setattr(os, "open", refusing(os.open, errno.ENAMETOOLONG, too_long))
    name = f"{title}.mp4"
    partial = folder(tmp_path).claim(name, ASKED, Version(), b"first")
    assert isinstance(partial, Partial)
    with partial:
        assert all(len(os.fsencode(each)) <= most_bytes for each in names(tmp_path))
        partial.append(b"first and more")
        done = partial.finish()
    assert names(tmp_path) == [done]
    assert done.endswith(".mp4")
    assert title.startswith(done.removesuffix(".mp4"))
    assert folder(tmp_path).claim(name, ASKED, Version(), b"first") == done


def test_claiming_a_file_raises_os_error_if_the_file_system_refuses_a_name_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", refusing(os.open, errno.ENAMETOOLONG, lambda *_: True))
    with pytest.raises(OSError, match="name too long"):
        claim(tmp_path)
    assert names(tmp_path) == []
