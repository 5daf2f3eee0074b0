"""Tests that docs/settings.md is generated from the settings and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from serverpy.cli import docs
from serverpy.settings import Settings


def test_docs_settings_md_is_up_to_date() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run make settings-doc"


def test_docs_settings_md_lists_every_setting() -> None:
    page = docs.page()
    for name in Settings.model_fields:
        assert f"| `{name}` | `SERVERPY_{name.upper()}` | `--{name.replace('_', '-')}` |" in page


def test_docs_settings_md_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = docs.page()
    monkeypatch.setenv("SERVERPY_PROFILE", "small")
    monkeypatch.setenv("SERVERPY_PORT", "1")
    assert docs.page() == before


def test_the_check_of_docs_settings_md_fails_if_the_page_is_outdated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(docs, "PAGE", tmp_path / "docs" / "settings.md")
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 1
    assert CliRunner().invoke(docs.command).exit_code == 0
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 0
    docs.PAGE.write_text("old")
    assert CliRunner().invoke(docs.command, ["--check"]).exit_code == 1
