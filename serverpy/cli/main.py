"""The command `serverpy`. It imports the module of a subcommand only when the user calls it, so that `--help` is fast.

Exit codes: 0 done, 1 failed (a line on stderr says why), 2 wrong usage, 141 if the reader of stdout has closed it.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import serverpy
from serverpy.cli.standard import (
    OUTPUT_CLOSED,
    OutputFailed,
    discard_output,
    open_missing_streams,
    replace_output_streams,
)
from serverpy.errors import ConfigurationError, ServerPYError

COMMANDS = {
    "serve": ("serverpy.cli.serve", "Start the server."),
    "info": ("serverpy.cli.info", "Show the metadata and formats of a page."),
    "get": ("serverpy.cli.get", "Download the media of pages."),
    "links": ("serverpy.cli.links", "Sign links that expire, and show what a link allows."),
    "keys": ("serverpy.cli.keys", "Add, list and revoke API keys."),
    "bench": ("serverpy.cli.bench", "Measure what streams cost on this machine."),
    "sample": ("serverpy.cli.sample", "Start the sample media site alone."),
    "doctor": ("serverpy.cli.doctor", "Show what this installation has, what is missing and how to get it."),
}
"""Maps the name of a subcommand to its summary for `--help` and to its module, in which the attribute `command` is the
click command."""

NEEDS_LINUX = "ServerPY needs Linux: run it in WSL, in a virtual machine or in a container (docs/install.md)."


class LazyGroup(click.Group):
    """A click group that knows its subcommands by name, and imports the module of a subcommand only when the
    user calls it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if sys.platform != "linux":  # platforms other than Linux may lack modules that the subcommand imports
            raise ConfigurationError(NEEDS_LINUX)
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, help=serverpy.SUMMARY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(serverpy.__version__, prog_name="serverpy")
def cli() -> None:
    """Run the subcommand that the arguments name."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the subcommand in `arguments` (by default those of the process) and exit with its exit code."""
    open_missing_streams()
    replace_output_streams()
    if sys.platform == "linux":
        # A parent that waits for its signals by sigwait(3) may have started this process with the same signals blocked.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except OutputFailed as failure:
        discard_output()
        code = OUTPUT_CLOSED if failure.reason is None else 1
        if failure.reason is not None:
            _complain(f"cannot write to stdout: {failure.reason}")
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> str | int | None:
    """Run the subcommand, and return its exit code."""
    try:
        cli.main(arguments, prog_name="serverpy")
    except ServerPYError as error:
        _flush_log()  # the reason is the last line on stderr
        _complain(str(error))
    except SystemExit as exit_:
        return exit_.code
    return 1


def _complain(text: str) -> None:
    for line in text.splitlines():
        print(f"serverpy: {line}", file=sys.stderr)


def _flush_log() -> None:
    """Wait until the log lines of the server, which another thread writes to stderr, are written."""
    import logging  # a late import, because most commands do not log

    for handler in logging.getLogger().handlers:
        handler.flush()
