"""Partial files and names in a folder where several processes write at once and any of them may be killed."""

from __future__ import annotations

from pathlib import Path

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


def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"one ")
        partial.append(b"two")
        assert partial.tail(3) == b"two"
        assert names(tmp_path) == ["film.mp4.part", "film.mp4.part.json"]
        assert partial.finish() == "film.mp4"
    assert names(tmp_path) == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"one two"


def test_an_empty_partial_file_is_removed(tmp_path: Path) -> None:
    claimed(tmp_path).close()
    assert names(tmp_path) == []


def test_a_partial_file_is_found_by_its_request(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"data")
    assert folder(tmp_path).find(OTHER) is None
    found = folder(tmp_path).find(ASKED)
    assert found is not None
    with found:
        assert (found.name, found.size, found.tail(10)) == ("film.mp4", 4, b"data")


def test_a_partial_file_in_use_cannot_be_resumed_and_its_name_is_taken(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        with pytest.raises(InUse):
            folder(tmp_path).find(ASKED)
        with claimed(tmp_path, OTHER) as second:
            assert (partial.name, second.name) == ("film.mp4", "film (2).mp4")


def test_a_partial_file_of_something_else_keeps_its_name(tmp_path: Path) -> None:
    """It may be another program's: yt-dlp names its partial files in the same way."""
    (tmp_path / "film.mp4.part").write_bytes(b"yt-dlp's")
    with claimed(tmp_path) as partial:
        partial.append(b"ours")
        assert partial.finish() == "film (2).mp4"
    assert (tmp_path / "film.mp4.part").read_bytes() == b"yt-dlp's"


def test_a_state_file_without_a_partial_file_is_removed(tmp_path: Path) -> None:
    """A process may be killed after the partial file is gone and before its state file is removed."""
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
def test_a_file_is_already_there_if_its_size_and_first_bytes_match(
    tmp_path: Path, total: int | None, first: bytes, same: bool
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"first bytes")
    found = claim(tmp_path, total=total, first=first)
    if isinstance(found, Partial):
        found.close()
    assert (found == "film.mp4") == same


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"ours")
        (tmp_path / "film.mp4").write_bytes(b"theirs")
        assert partial.finish() == "film (2).mp4"
    assert (tmp_path / "film.mp4").read_bytes() == b"theirs"


def test_force_overwrites_only_files_older_than_the_run(tmp_path: Path) -> None:
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


def test_force_removes_a_partial_file(tmp_path: Path) -> None:
    with claimed(tmp_path) as partial:
        partial.append(b"data")
    assert folder(tmp_path, force=True).find(ASKED) is None
    assert names(tmp_path) == []


def test_only_a_strong_etag_or_a_date_is_a_validator() -> None:
    assert Version(etag='"a"', last_modified="then").validator == '"a"'
    assert Version(etag='W/"a"', last_modified="then").validator == "then"
    assert Version(etag='W/"a"').validator is None


def test_the_number_is_put_before_the_extension() -> None:
    assert [name for _, name in zip(range(3), numbered("a.b.mp4"), strict=False)] == [
        "a.b.mp4",
        "a.b (2).mp4",
        "a.b (3).mp4",
    ]
