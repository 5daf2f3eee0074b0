"""Tests of the secrets that sign links. The secrets are in LINK_SECRET, or in a file in STATE_DIR that only its owner
can read."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serverpy.access.link_secrets import FILE_NAME, LinkSecrets, load, load_or_make
from serverpy.access.links import derive

SECRET, OTHER = "a secret of the server", "the secret of another server"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_state_directory_is_not_created_if_link_secret_is_set(tmp_path: Path) -> None:
    secrets = LinkSecrets((SECRET, OTHER), tmp_path / "state")
    assert await secrets.keys() == (derive(SECRET), derive(OTHER))
    assert not (tmp_path / "state").exists()


def test_the_secret_is_created_once_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    (made,) = load_or_make(directory)
    assert len(made) >= 43  # 256 bits are 43 characters in base64
    assert (mode(directory), mode(directory / FILE_NAME)) == (0o700, 0o600)
    assert load_or_make(directory) == load(directory) == (made,)
    assert load_or_make(tmp_path / "other") != (made,)
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]


def test_only_the_owner_can_read_the_secret_even_with_a_umask_of_0(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_make(tmp_path / "state")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "state"), mode(tmp_path / "state" / FILE_NAME)) == (0o700, 0o600)


def test_all_secrets_in_the_file_are_loaded_in_order(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(f"{'b' * 20}\n{'a' * 20}\n")
    assert load_or_make(tmp_path) == ("b" * 20, "a" * 20)


async def test_the_secret_in_the_state_directory_survives_a_restart(tmp_path: Path) -> None:
    first = await LinkSecrets((), tmp_path).keys()
    assert await LinkSecrets((), tmp_path).keys() == first


def test_processes_that_start_at_the_same_time_use_the_same_secret(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serverpy.access.link_secrets import load_or_make\n"
        "sys.stdin.readline(); print(*load_or_make(Path(sys.argv[1])))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    found = {each.communicate(timeout=120)[0] for each in started}
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE_NAME]


def directory_in_place_of_the_file(state: Path) -> None:
    (state / FILE_NAME).mkdir(parents=True)


def empty_file(state: Path) -> None:
    state.mkdir()
    (state / FILE_NAME).touch()


def short_secret(state: Path) -> None:
    state.mkdir()
    (state / FILE_NAME).write_text("hush\n")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (Path.touch, "Not a directory"),
        (directory_in_place_of_the_file, "Is a directory"),
        (empty_file, "must have one secret of at least 16 characters"),
        (short_secret, "must have one secret of at least 16 characters"),
    ],
)
async def test_an_unusable_secret_file_causes_a_warning_and_a_secret_that_is_valid_until_the_process_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, prepare: Callable[[Path], None], reason: str
) -> None:
    prepare(tmp_path / "state")
    message = await warning_of(LinkSecrets((), tmp_path / "state"), caplog)
    assert reason in message
    assert "hush" not in message


async def test_the_value_none_of_state_dir_causes_a_warning_and_a_secret_that_is_valid_until_the_process_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert "STATE_DIR is none" in await warning_of(LinkSecrets((), None), caplog)


async def test_a_state_dir_that_cannot_be_created_causes_a_warning_and_a_secret_that_is_valid_until_the_process_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert "/proc/serverpy" in await warning_of(LinkSecrets((), Path("/proc/serverpy")), caplog)


async def warning_of(secrets: LinkSecrets, caplog: pytest.LogCaptureFixture) -> str:
    """Call `secrets.keys` twice, and return the only warning that is logged."""
    with caplog.at_level(logging.WARNING):
        first = await secrets.keys()
        assert await secrets.keys() is first
    (message,) = [
        text
        for text in caplog.messages
        if text.startswith("signed links and sessions become invalid when the server stops")
    ]
    assert message.endswith("set LINK_SECRET")
    return message


def test_a_secret_file_that_other_users_can_read_causes_a_warning_that_does_not_contain_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE_NAME
    path.write_text("a" * 20)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path) == ("a" * 20,)
    (message,) = caplog.messages
    assert "0600" in message
    assert "aaaa" not in message
