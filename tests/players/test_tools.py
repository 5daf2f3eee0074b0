"""Tests that a test is skipped, or fails in CI, if a program that it needs is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.players.tools import node_path, tool


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("true", pytest.fail.Exception), ("false", pytest.skip.Exception), (None, pytest.skip.Exception)],
)
@pytest.mark.parametrize("find", [tool, node_path])
def test_a_test_whose_program_is_missing_is_skipped_with_its_name_or_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, find: Callable[[str], str], ci: str | None, outcome: type[BaseException]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"^no-such-program is missing: `make "):
        find("no-such-program")
