"""Tests that the recipes in the documentation work: nginx accepts the recommended configuration, and ServerPY accepts
the documented commands, settings files and keys files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import trustme

from serverpy.access.keys import digest_of, parse_keys
from serverpy.bench.measure.targets.base import find_command, free_port
from serverpy.cli.main import cli
from serverpy.settings import load_settings

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "access.md"
DIRECTORIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_nginx_accepts_the_configuration_in_docs_access_md(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```nginx\n(server \{.*?)```", PAGE.read_text(), re.DOTALL)
    issued = trustme.CA().issue_cert("media.example")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "media.pem")
    issued.private_key_pem.write_to_path(tmp_path / "media.key")
    assert "listen 443 ssl" in recipe
    recipe = recipe.replace("/etc/ssl", str(tmp_path)).replace("listen 443", f"listen 127.0.0.1:{free_port()}")
    own = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in DIRECTORIES)
    user = "user root;" if os.geteuid() == 0 else ""
    path = tmp_path / "nginx.conf"
    path.write_text(f"{user}\npid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{own}{recipe}}}\n")
    nginx = find_command("nginx")
    assert nginx, "nginx is not installed (Debian: apt install nginx-light)"
    command: list[str | Path] = [nginx, "-t", "-p", tmp_path, "-c", path, "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "[emerg]" in done.stderr) == (0, False), done.stderr


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `serverpy` command in the shell examples of a page, without the name of the command."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "serverpy" in words:
                command = words[words.index("serverpy") + 1 :]
                yield command[: command.index("|")] if "|" in command else command


COMMANDS = [words for page in sorted(DOCS.glob("*.md")) for words in commands(page)]


def test_the_documentation_has_examples_of_the_commands_for_access() -> None:
    found = {" ".join(words[:2]) for words in COMMANDS}
    assert {"keys add", "keys list", "keys revoke", "links sign", "links verify", "serve --host"} <= found
    assert len(FILES) >= 4


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_accepts_each_command_in_the_documentation(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("list.txt", "bench-results/results.json", "soak-results/results.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("https://example.org/watch?v=3\n")
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        _, command, words = command.resolve_command(click.Context(command), words)
    assert command is not None
    command.make_context("serverpy", list(words))


FILES = [
    text
    for page in sorted(DOCS.glob("*.md"))
    for text in blocks(page, "toml")
    if "serverpy.toml" in text.partition("\n")[0]
]


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_each_settings_file_in_the_documentation_is_valid_and_says_who_may_use_the_server(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "serverpy.toml"
    path.write_text(text)
    monkeypatch.setenv("SERVERPY_CONFIG", str(path))
    settings = load_settings()
    assert settings.require_key or settings.open


def test_the_keys_file_in_the_documentation_is_valid() -> None:
    (text,) = (text for text in blocks(PAGE, "toml") if text.startswith("# keys.toml"))
    (key,) = parse_keys(text.replace('"…"', f'"{digest_of(b"secret").hex()}"'))
    assert key.name == "bob"
    assert None not in (key.expires, key.rate, key.streams, key.bytes_per_day)
    assert key.sites
    assert key.methods
    assert key.networks
