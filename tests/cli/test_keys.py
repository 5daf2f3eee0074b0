"""Tests of `serverpy keys`: a new key is printed once, is not in the file, and `--json` makes the output JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serverpy.access.clients import parse_networks
from serverpy.access.key import Key
from serverpy.access.key_file import load
from serverpy.access.keys import digest_of
from serverpy.cli.main import cli
from serverpy.errors import ConfigurationError


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVERPY_API_KEYS_FILE", "keys.toml")
    return tmp_path / "keys.toml"


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments], catch_exceptions=False)


def test_the_command_keys_add_prints_only_the_new_key_to_stdout_and_does_not_store_the_key_in_the_file(
    path: Path,
) -> None:
    done = keys("add", "bob")
    assert done.exit_code == 0
    secret = done.stdout.strip()
    assert len(secret) == 43
    assert secret not in path.read_text()
    assert load(path).find(secret.encode()) == Key(name="bob", digest=digest_of(secret.encode()))
    assert "not shown again" in done.stderr


def test_every_right_and_limit_of_a_key_can_be_set_by_an_option(path: Path) -> None:
    arguments = (
        "add bob --admin --expires 2027-01-31 --rate 100/hour --streams 5 --bytes-per-day 10GiB --sites youtube,vimeo "
        "--methods relay --networks 10.0.0.0/8,::1"
    )
    secret = keys(*arguments.split()).stdout.strip()
    assert load(path).get("bob") == Key(
        name="bob",
        digest=digest_of(secret.encode()),
        admin=True,
        expires=datetime(2027, 1, 31, tzinfo=UTC),
        rate="100/hour",
        streams=5,
        bytes_per_day=10 << 30,
        sites=("youtube", "vimeo"),
        methods=("relay",),
        networks=parse_networks(["10.0.0.0/8", "::1"]),
    )


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["a b"], "the name must have"),
        (["bob", "--expires", "soon"], "--expires must be a date such as"),
        (["bob", "--expires", "2020-01-01"], "--expires must be in the future"),
        (["bob", "--rate", "often"], "--rate must be a rate"),
        (["bob", "--streams", "0"], "--streams must be a whole number"),
        (["bob", "--bytes-per-day", "much"], "--bytes-per-day must be"),
        (["bob", "--methods", "magic"], "--methods must contain only streaming methods: relay"),
        (["bob", "--networks", "here"], "--networks must contain only IP addresses"),
        (["bob", "--sites", ""], "--sites must have at least one item"),
        (["bob", "--sites", "all"], "--sites must contain names of yt-dlp extractors; leave it out to allow all"),
    ],
)
def test_the_command_keys_add_exits_with_status_2_and_names_the_option_if_a_value_is_invalid(
    path: Path, arguments: list[str], fault: str
) -> None:
    done = keys("add", *arguments)
    assert done.exit_code == 2
    assert fault in " ".join(done.stderr.split())
    assert not path.exists()


def test_the_command_keys_list_shows_names_and_rights_and_limits_but_neither_secrets_nor_digests(path: Path) -> None:
    secret = keys("add", "bob", "--rate", "100/hour", "--sites", "youtube", "--expires", "2099-01-01").stdout.strip()
    path.write_text(path.read_text().replace("2099", "2020"))
    keys("add", "al", "--admin")
    text = keys("list").stdout
    for word in ("bob", "100/hour", "sites youtube", "2020-01-01 00:00 UTC (expired)", "al", "admin", "never"):
        assert word in text
    assert secret not in text
    assert digest_of(secret.encode()).hex() not in text


def test_the_keys_commands_print_json_if_the_option_json_is_given(path: Path) -> None:
    added = json.loads(keys("add", "bob", "--streams", "5", "--json").stdout)
    assert load(path).find(added.pop("key").encode()) is not None
    expected: dict[str, Any] = {
        "name": "bob", "admin": False, "expires": None, "expired": False, "rate": None, "streams": 5,
        "bytes_per_day": None, "sites": [], "methods": [], "networks": [],
    }  # fmt: skip
    assert added == expected
    assert json.loads(keys("list", "--json").stdout) == [expected]
    assert json.loads(keys("revoke", "bob", "--json").stdout) == {"name": "bob", "revoked": True}
    assert json.loads(keys("list", "--json").stdout) == []


def test_the_command_keys_revoke_removes_the_named_key_and_fails_if_the_key_does_not_exist(path: Path) -> None:
    keys("add", "bob")
    assert keys("revoke", "bob").stdout == "revoked the API key bob\n"
    assert len(load(path)) == 0
    with pytest.raises(ConfigurationError, match="there is no key bob"):
        keys("revoke", "bob")


def test_the_keys_commands_fail_if_api_keys_file_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SERVERPY_API_KEYS_FILE")
    for arguments in (["add", "bob"], ["list"], ["revoke", "bob"]):
        with pytest.raises(ConfigurationError, match="API_KEYS_FILE is not set"):
            keys(*arguments)
    keys("add", "bob", "--api-keys-file", "other.toml")
    assert len(load(tmp_path / "other.toml")) == 1
