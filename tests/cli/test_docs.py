"""docs/settings.md is generated from the settings, and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from serverpy.cli import docs
from serverpy.settings import Settings


def test_docs_settings_is_up_to_date() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run make settings-doc"


def test_docs_settings_has_every_setting() -> None:
    page = docs.page()
    for name in Settings.model_fields:
        assert f"| `{name}` | `SERVERPY_{name.upper()}` | `--{name.replace('_', '-')}` |" in page


def test_docs_settings_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = docs.page()
    monkeypatch.setenv("SERVERPY_PROFILE", "small")
    monkeypatch.setenv("SERVERPY_PORT", "1")
    assert docs.page() == before


def test_check_finds_an_outdated_docs_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docs, "PAGE", tmp_path / "docs" / "settings.md")
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 1
    assert CliRunner().invoke(docs.command).exit_code == 0
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 0
    docs.PAGE.write_text("old")
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 1
