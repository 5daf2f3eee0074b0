"""Tests that docs/cli.md names every command and option, except options that are described on other pages."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from serverpy.cli.main import COMMANDS, cli

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_docs_cli_md_names_every_command(name: str) -> None:
    assert f"`serverpy {name}" in PAGE


@pytest.mark.parametrize("name", ["info", "get"])
def test_docs_cli_md_names_every_option_of_the_commands_info_and_get(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    missing = [flag for option in options for flag in option.opts if f"`{flag}" not in PAGE]
    assert not missing
