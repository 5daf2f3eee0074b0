"""Tests that PYTHONOPTIMIZE=2, which removes docstrings and assertions, does not change how the server and its commands
behave, or the server's documentation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serverpy.sample.site import SampleSite
from tests.server import serving

TEXTS = """
import json
import click
from serverpy import create_app
from serverpy.cli.main import COMMANDS, cli
print(json.dumps(create_app().openapi(), indent=1))
context = click.Context(cli)
print(cli.get_help(context))
for name in COMMANDS:
    print(cli.get_command(context, name).get_help(click.Context(cli)))
"""


def printed(level: str) -> str:
    """Return the output of the program TEXTS at the optimisation level `level`."""
    environment = {**os.environ, "PYTHONOPTIMIZE": level}
    return subprocess.run(
        [sys.executable, "-c", TEXTS], env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_the_variable_pythonoptimize_changes_neither_the_openapi_document_nor_the_help_texts() -> None:
    plain = printed("0")
    assert "One format. `bitrate` is in kbit/s" in plain
    assert "@FILE reads URLs from a file" in plain
    assert printed("2") == plain


def test_a_server_that_runs_with_pythonoptimize_2_relays_and_sends_embedded_streams(
    site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    with serving(site) as server:
        for method in ("relay", "embedded"):
            answer = server.get("/page/prog", method=method)
            assert (answer.status, answer.headers["x-serverpy-method"]) == (200, method)
            assert answer.body == site.path("prog.mp4").read_bytes()
