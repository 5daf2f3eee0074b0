"""Tests of private directories. A private directory is removed by the process that created it, or by the next sweep if
that process was killed."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from serverpy.directories import PrivateDirectory, sweep

PREFIX = "serverpy-test-"
MAKER = f"""
import sys
from serverpy.directories import PrivateDirectory
directory = PrivateDirectory({PREFIX!r}, sys.argv[1])
(directory.path / "cookies.txt").write_text("secret")
print(flush=True)
sys.stdin.read()
"""


def test_a_private_directory_is_empty_and_readable_only_by_its_owner_and_is_removed_with_its_content(
    tmp_path: Path,
) -> None:
    directory = PrivateDirectory(PREFIX, str(tmp_path))
    assert list(tmp_path.iterdir()) == [directory.path]
    assert directory.path.stat().st_mode & 0o777 == 0o700
    (directory.path / "below").mkdir()
    (directory.path / "below" / "file").write_text("x")
    directory.remove()
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_the_directory_of_a_killed_process_but_not_that_of_a_running_process(tmp_path: Path) -> None:
    ours = PrivateDirectory(PREFIX, str(tmp_path))
    other = tmp_path / "serverpy-other"
    other.mkdir()
    command = [sys.executable, "-c", MAKER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        sweep(PREFIX, str(tmp_path))
        assert len(list(tmp_path.glob(f"{PREFIX}*/cookies.txt"))) == 1
        maker.kill()
    sweep(PREFIX, str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([ours.path, other])
    ours.remove()


def test_a_private_directory_is_in_memory_if_no_folder_for_temporary_files_can_be_written_to() -> None:
    """With RLIMIT_FSIZE=0, a process cannot write to any file on a disk, as in a container with a read-only file
    system."""
    program = (
        "import resource\n"
        "from serverpy.directories import IN_MEMORY, PrivateDirectory, sweep\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"sweep({PREFIX!r})\n"
        f"directory = PrivateDirectory({PREFIX!r})\n"
        "print(directory.path.parent == __import__('pathlib').Path(IN_MEMORY))\n"
        "directory.remove()\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_a_sweep_does_not_follow_symbolic_links(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("x")
    (tmp_path / f"{PREFIX}link").symlink_to(target)
    sweep(PREFIX, str(tmp_path))
    assert (target / "file").exists()


def test_a_private_directory_that_cannot_be_locked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", full)
        with pytest.raises(OSError, match="Too many"):
            PrivateDirectory(PREFIX, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_no_directory_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    directory = PrivateDirectory(PREFIX, str(tmp_path))
    sweep(PREFIX, str(tmp_path))
    assert set(tmp_path.iterdir()) == {left, directory.path}
    directory.remove()
    assert list(tmp_path.iterdir()) == [left]
