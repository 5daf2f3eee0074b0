"""Tests of the keys file: when the server reads it again, what happens if it is invalid, and that each write is
atomic."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serverpy.access import key_file
from serverpy.access.key import Key
from serverpy.access.key_file import KeyFile, add, add_first_admin, load, revoke
from serverpy.access.keys import Keys, digest_of, format_key
from serverpy.errors import ConfigurationError


def key(name: str) -> Key:
    return Key(name=name, digest=digest_of(name.encode()))


def names(keys: Keys) -> list[str]:
    return [each.name for each in keys]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `KeyFile.current` check the file at every call."""
    monkeypatch.setattr(key_file, "CHECK_SECONDS", 0.0)


@pytest.mark.usefixtures("often")
async def test_the_server_reads_a_changed_keys_file_again(path: Path) -> None:
    path.write_text(format_key(key("a")))
    file = KeyFile(path)
    assert names(await file.current()) == ["a"]
    add(path, lambda _keys: key("b"))
    assert names(await file.current()) == ["a", "b"]
    revoke(path, "a")
    assert names(await file.current()) == ["b"]


async def test_the_keys_file_is_checked_for_changes_at_most_once_a_second(path: Path) -> None:
    path.write_text(format_key(key("a")))
    file = KeyFile(path)
    path.write_text("")
    assert names(await file.current()) == ["a"]


DEEP = b'{"x":' + b"[" * 100_000
LONG = b"[keys.b]\nbytes_per_day = " + b"9" * 5000


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("content", [b"[keys.a", b"\xff", b"[keys.b]\nsha256 = 'hush'", DEEP, LONG, None])
async def test_while_the_keys_file_is_invalid_or_missing_the_old_keys_stay_valid_and_one_error_is_logged(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(format_key(key("a")))
    file = KeyFile(path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert names(await file.current()) == ["a"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "the previous API keys stay in effect until the keys file is corrected: API_KEYS_FILE: " in record.message
    assert "hush" not in record.message
    path.write_text(format_key(key("c")))
    assert names(await file.current()) == ["c"]


@pytest.mark.parametrize("content", [b"[keys.a", DEEP, LONG, None])
def test_an_invalid_or_missing_keys_file_raises_configuration_error_at_start(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^API_KEYS_FILE: {path}"):
        KeyFile(path)


def test_a_keys_file_that_is_too_large_raises_configuration_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "MAX_BYTES", 100)
    path.write_text("#" * 101)
    with pytest.raises(ConfigurationError, match="too large"):
        load(path)


def test_only_the_owner_can_read_the_keys_file_after_a_key_is_added(path: Path) -> None:
    umask = os.umask(0)
    try:
        add(path, lambda _keys: key("a"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        add(path, lambda _keys: key("b"))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(load(path)) == ["a", "b"]
    assert [each.name for each in path.parent.iterdir()] == ["keys.toml"]


def test_adding_a_key_to_a_keys_file_that_is_a_symbolic_link_changes_the_target_file_and_keeps_the_link(
    path: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real.toml"
    real.touch()
    path.symlink_to(real)
    add(path, lambda _keys: key("a"))
    assert path.is_symlink()
    assert names(load(real)) == ["a"]


def test_adding_or_revoking_a_key_preserves_the_comments_and_the_other_keys(path: Path) -> None:
    text = f"# of the house\n{format_key(key('a'))}\n# of bob\n[keys.bob]  # a bot\nsha256 = '{'0' * 64}'\n"
    path.write_text(text)
    add(path, lambda _keys: key("c"))
    assert path.read_text() == f"{text}\n{format_key(key('c'))}"
    revoke(path, "a")
    assert names(load(path)) == ["bob", "c"]
    assert path.read_text().startswith("# of the house\n# of bob\n[keys.bob]  # a bot\n")
    revoke(path, "bob")
    revoke(path, "c")
    assert names(load(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        f"keys = {{a = {{sha256 = '{key('a').digest.hex()}'}}, b = {{sha256 = '{key('b').digest.hex()}'}}}}\n",
        f"keys.a.sha256 = '{key('a').digest.hex()}'\nkeys.b.sha256 = '{key('b').digest.hex()}'\n",
        f"[keys]\na.sha256 = '{key('a').digest.hex()}'\n[keys.'b']\nsha256 = '{key('b').digest.hex()}'\n",
    ],
)
def test_keys_can_be_added_and_revoked_in_inline_and_dotted_toml_tables(path: Path, text: str) -> None:
    path.write_text(text)
    revoke(path, "b")
    assert list(load(path)) == [key("a")]
    path.write_text(text)
    add(path, lambda _keys: key("c"))
    assert list(load(path)) == [key("a"), key("b"), key("c")]


def test_adding_an_existing_key_or_revoking_a_missing_key_raises_an_error_and_changes_nothing(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        revoke(path, "a")
    add(path, lambda _keys: key("a"))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=f"there is already a key a in {path}"):
        add(path, lambda _keys: key("a"))
    with pytest.raises(ConfigurationError, match=f"there is no key b in {path}"):
        revoke(path, "b")
    assert path.read_bytes() == before


def test_the_comment_directly_above_the_next_key_stays_when_a_key_is_revoked(path: Path) -> None:
    path.write_text(
        f"# the first\n{format_key(key('a'))}# of a\n\n# the second\n# key\n{format_key(key('b'))}# end of b\n"
    )
    revoke(path, "a")
    assert path.read_text() == f"# the first\n# the second\n# key\n{format_key(key('b'))}# end of b\n"


def test_adding_a_key_to_an_invalid_keys_file_or_to_one_in_the_format_of_cobalt_raises_an_error_and_changes_nothing(
    path: Path,
) -> None:
    for content in ("[keys.a", "{}"):
        path.write_text(content)
        with pytest.raises(ConfigurationError):
            add(path, lambda _keys: key("a"))
        assert path.read_text() == content


def test_a_first_admin_key_is_added_only_if_the_keys_file_has_no_admin_key(path: Path) -> None:
    path.write_text(format_key(key("admin")))
    secret = add_first_admin(path)
    assert secret is not None
    found = load(path).find(secret.encode())
    assert found is not None
    assert (found.name, found.admin) == ("admin-2", True)
    assert add_first_admin(path) is None
    assert len(load(path)) == 2


def test_no_key_is_lost_if_several_processes_add_keys_at_the_same_time(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from serverpy.access.key import Key\nfrom serverpy.access.key_file import add\n"
        "for number in range(10):\n"
        "    name = f'{sys.argv[2]}-{number}'\n"
        "    add(Path(sys.argv[1]), lambda _keys: Key(name=name, digest=name.encode().ljust(32)))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(number)]) for number in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert sorted(names(load(path))) == sorted(f"{one}-{two}" for one in range(4) for two in range(10))
