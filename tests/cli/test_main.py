"""Tests of the command `serverpy`. The command prints its help without importing the server, and reports each failure
on one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import serverpy
from serverpy.cli.main import COMMANDS, NEEDS_LINUX, cli, main
from serverpy.settings import Settings


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serverpy", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_help_names_the_commands_without_importing_the_server() -> None:
    code = (
        "import sys\nfrom serverpy.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        "assert not {'pydantic', 'fastapi', 'uvicorn', 'av', 'yt_dlp', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_refuses_to_run_on_systems_other_than_linux(platform: str, name: str) -> None:
    """The error for an unsupported system is one line, even if modules that exist only on Unix systems cannot be
    imported."""
    code = (
        "import sys, click\n"
        "for name in ('fcntl', 'resource', 'termios', 'pwd', 'grp', 'uvloop'):\n    sys.modules[name] = None\n"
        f"sys.platform = {platform!r}\n"
        f"from serverpy.cli.main import main\nmain([{name!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == f"serverpy: {NEEDS_LINUX}"


def test_help_is_printed_on_systems_other_than_linux() -> None:
    code = "import sys, click\nsys.platform = 'darwin'\nfrom serverpy.cli.main import main\nmain(['--help'])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


def test_the_version_option_prints_the_version_of_the_package() -> None:
    assert run("--version").stdout == f"serverpy, version {serverpy.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert f"Usage: cli {name}" in done.output


def test_every_setting_is_an_option_of_the_command_serve() -> None:
    text = CliRunner().invoke(cli, ["serve", "--help"], terminal_width=400).output
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
        assert f"SERVERPY_{name.upper()}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "--port", "99999"],
        ["serve", "--profile", "huge"],
        ["serve", "--memory-budget", "5MB"],
        ["sample", "--port", "x"],
    ],
)
def test_a_command_with_invalid_arguments_exits_with_status_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.output


def test_the_error_for_an_invalid_secret_does_not_contain_the_secret() -> None:
    done = CliRunner().invoke(cli, ["serve", "--link-secret", "hush"])
    assert done.exit_code == 2
    assert "hush" not in done.output


def test_serve_reports_each_invalid_setting_on_one_line_and_exits_with_status_1() -> None:
    done = run("serve", SERVERPY_PORT="x", SERVERPY_WORKERS="0")
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.partition(": must")[0] for line in done.stderr.splitlines()] == [
        "serverpy: SERVERPY_PORT",
        "serverpy: SERVERPY_WORKERS",
    ]


def test_main_exits_with_status_0_if_the_command_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert not caught.value.code
    assert serverpy.__version__ in capsys.readouterr().out


def test_an_option_takes_precedence_over_the_environment_variable(tmp_path: Path) -> None:
    """The test gives an invalid host as an option and a valid host in the environment. The error names the invalid
    host."""
    done = run("serve", "--host", "nowhere.invalid", "--port", "1", SERVERPY_HOST="127.0.0.1")
    assert (done.returncode, done.stderr) == (1, "serverpy: cannot listen on nowhere.invalid: no such host\n")
