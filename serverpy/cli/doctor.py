"""The command `serverpy doctor`, which shows what this installation has, what is missing, and how to install it. The
command opens no connection."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import serverpy
from serverpy.access.key_file import load
from serverpy.cli.terminal import PIPE_COLUMNS, size
from serverpy.errors import ConfigurationError
from serverpy.extras import EXTRAS, JS, Extra
from serverpy.memory import profile as profiles
from serverpy.settings import Settings, load_settings

OLD = timedelta(days=90)
"""Age in days at which `doctor` advises the user to upgrade yt-dlp. Sites change, and an older yt-dlp fails on many of
them."""
FDS_PER_STREAM = 4
PIPE_PAGES_ADVISED = 16384


class Verdict(Enum):
    FINE = "[green]ok[/]"
    ADVICE = "[yellow]advice[/]"
    MISSING = "[red]missing[/]"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table that `doctor` prints. `advice` says what to install or change. It is empty if nothing is
    wrong."""

    subject: str
    found: str
    verdict: Verdict = Verdict.FINE
    advice: str = ""


HELP = """Show what this installation has, what is missing and how to get it.

Exits with 1 if something essential is missing.
"""


@click.command("doctor", help=HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
def command(as_json: bool) -> None:
    findings = list(examine())
    if as_json:
        print(json.dumps({"version": serverpy.__version__, "findings": list(map(_values, findings))}))
    else:
        # without a terminal, the table is as wide as its texts
        Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(_table(findings))
        for extra in (extra for extra in EXTRAS if extra.missing):
            print(f"To {extra.purpose}: {extra.command}")
    missing = [finding.subject for finding in findings if finding.verdict is Verdict.MISSING]
    if missing:
        print(f"serverpy: missing: {', '.join(missing)}", file=sys.stderr)
        sys.exit(1)


def _values(finding: Finding) -> dict[str, str]:
    verdict = Text.from_markup(finding.verdict.value).plain
    return {"subject": finding.subject, "found": finding.found, "verdict": verdict, "advice": finding.advice}


def _table(findings: Iterable[Finding]) -> Table:
    """Return the table of the findings. In a narrow terminal, texts are wrapped, even in long paths, and not cut."""
    table = Table(title=f"ServerPY {serverpy.__version__}", title_justify="left")
    for name in ("", "found", "", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        table.add_row(finding.subject, Text(finding.found), finding.verdict.value, Text(finding.advice))
    return table


def examine() -> Iterator[Finding]:
    """Yield every finding of `doctor`, in the order of the table."""
    yield python()
    yield yt_dlp(date.today())
    yield package("uvloop", "uvloop", "the event loop")
    yield package("httptools", "httptools", "parses HTTP")
    yield from map(optional, EXTRAS)
    yield javascript()
    yield Finding("machine", profiles.describe(profiles.machine_memory(), profiles.machine_cores()))
    try:
        settings = load_settings()
    except ConfigurationError as error:
        yield Finding("settings", str(error), Verdict.MISSING, "correct these settings: see docs/settings.md")
        return
    yield from sized(settings)
    yield from guarded(settings)


def python() -> Finding:
    fine = sys.version_info >= (3, 11)
    return Finding(
        "python",
        f"{platform.python_version()} ({platform.python_implementation()})",
        Verdict.FINE if fine else Verdict.MISSING,
        "" if fine else "install Python 3.11 or newer",
    )


def package(module: str, distribution: str, purpose: str) -> Finding:
    """Check a required package: whether it can be imported, and its version."""
    if error := _import_error(module):
        advice = f"pip install --force-reinstall {distribution} ({purpose})"
        return Finding(distribution, f"not usable: {error}", Verdict.MISSING, advice)
    return Finding(distribution, importlib.metadata.version(distribution))


def optional(extra: Extra) -> Finding:
    """Check an optional extra of ServerPY: report the versions of its packages, or the first package that is missing or
    cannot be imported."""
    subject = f"extra {extra.name}"
    if extra.missing:
        advice = f"to {extra.purpose}: {extra.command}"
        return Finding(subject, f"not installed: {', '.join(extra.missing)}", Verdict.ADVICE, advice)
    for module, distribution in extra.packages.items():
        if error := _import_error(module):
            advice = f"pip install --force-reinstall {distribution}"
            return Finding(subject, f"{distribution} is not usable: {error}", Verdict.ADVICE, advice)
    versions = (f"{name} {importlib.metadata.version(name)}" for name in extra.packages.values())
    return Finding(subject, ", ".join(versions))


def _import_error(module: str) -> ImportError | None:
    """Import a package. Returns the ImportError if the import fails, otherwise None. A check of the package's
    metadata alone would not detect that the installed wheel was built for another platform."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return error
    return None


def yt_dlp(today: date) -> Finding:
    """Check the age of yt-dlp, whose version is its release date. Reads the version from the package's metadata,
    because only the worker process may import yt-dlp."""
    try:
        version = importlib.metadata.version("yt-dlp")
    except importlib.metadata.PackageNotFoundError:
        return Finding("yt-dlp", "not installed", Verdict.MISSING, "pip install yt-dlp (finds the media)")
    released = release_date(version)
    if released is None or today - released <= OLD:
        return Finding("yt-dlp", version)
    age = (today - released).days
    return Finding("yt-dlp", f"{version}, {age} days old", Verdict.ADVICE, "pip install --upgrade yt-dlp")


def release_date(version: str) -> date | None:
    """Parse the date in a version such as 2026.08.19 or 2026.8.19.1. Returns None if the version has no date."""
    try:
        year, month, day = (int(part) for part in version.split(".")[:3])
        return date(year, month, day)
    except ValueError:
        return None


def javascript(find: Callable[[], str | None] | None = None) -> Finding:
    """Check the JavaScript runtime: the deno that the extra installs beside the Python interpreter, or else a deno on
    the PATH."""
    path = (find or _find_deno)()
    subject = "JavaScript"
    if path is None:
        return Finding(subject, "no deno", Verdict.ADVICE, f"to {JS.purpose}: {JS.command}")
    if not os.access(path, os.X_OK):
        return Finding(subject, f"{path} cannot be executed", Verdict.ADVICE, f"chmod +x {path}")
    return Finding(subject, path)


def _find_deno() -> str | None:
    beside = Path(sysconfig.get_path("scripts"), "deno")
    return str(beside) if beside.exists() else shutil.which("deno")


def sized(settings: Settings) -> Iterator[Finding]:
    """Check the effective settings against this machine's memory, file descriptors and pipes."""
    chosen = profiles.resolve(settings.profile).name
    yield Finding("profile", chosen if settings.profile != "auto" else f"{chosen} (auto)")
    yield Finding(
        "streams",
        f"{settings.max_streams} at once within {size(settings.memory_budget)}, "
        f"{settings.max_workers} embedded, {settings.max_children} children",
    )
    yield budget(settings, profiles.machine_memory())
    yield files(settings.max_streams, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield pipes(Path("/proc/sys/fs"))


def budget(settings: Settings, memory_bytes: int) -> Finding:
    wanted = settings.memory_budget * settings.workers
    found = f"{size(wanted)} of {size(memory_bytes)}"
    if wanted * 2 <= memory_bytes:
        return Finding("memory budget", found)
    return Finding(
        "memory budget",
        found,
        Verdict.ADVICE,
        "leave half of the memory to the processes: lower MEMORY_BUDGET or WORKERS",
    )


def files(streams: int, hard_limit: int) -> Finding:
    wanted = streams * FDS_PER_STREAM
    found = "no limit" if hard_limit == resource.RLIM_INFINITY else f"up to {hard_limit}"
    if hard_limit == resource.RLIM_INFINITY or hard_limit >= wanted:
        return Finding("open files", found)
    return Finding(
        "open files", found, Verdict.ADVICE, f"raise the limit to {wanted} (ulimit -Hn), or lower MAX_STREAMS"
    )


def pipes(folder: Path) -> Finding:
    """Check the kernel's limits on pipes. Each stream of the embedded method has a pipe; once a user's pipes exceed the
    user's soft limit, the kernel makes new pipes much smaller."""
    soft = (folder / "pipe-user-pages-soft").read_text().strip()
    largest = int((folder / "pipe-max-size").read_text())
    found = f"{soft} pages for each user, {size(largest)} for each pipe"
    if int(soft) == 0 or int(soft) >= PIPE_PAGES_ADVISED:
        return Finding("pipes", found)
    return Finding("pipes", found, Verdict.ADVICE, f"sysctl fs.pipe-user-pages-soft={PIPE_PAGES_ADVISED}")


def guarded(settings: Settings) -> Iterator[Finding]:
    """Show which networks, ports and sites the server may reach, and who can reach the server."""
    networks = ", ".join(settings.allow_networks)
    yield Finding("private networks", f"may be reached: {networks}" if networks else "closed")
    yield Finding("denied ports", f"{len(settings.deny_ports)}")
    sites = ", ".join(settings.allow_sites) or "all"
    denied = f", but not {', '.join(settings.deny_sites)}" if settings.deny_sites else ""
    generic = "" if settings.generic_extractor else "; no generic extractor"
    yield Finding("sites", f"{sites}{denied}{generic}")
    yield Finding("proxy", "set" if settings.proxy else "none")
    yield from reached(settings)


def reached(settings: Settings) -> Iterator[Finding]:
    """Show on which address the server listens, and who may use it."""
    found = f"{settings.host} port {settings.port}"
    is_public = settings.host not in ("127.0.0.1", "::1", "localhost")
    if settings.open and not settings.require_key:
        advice = "everybody who can reach it may stream: set REQUIRE_KEY unless that is wanted"
        yield Finding("listens on", f"{found}, open", Verdict.ADVICE, advice)
    elif is_public and not settings.require_key:
        advice = "`serve` refuses this address: set REQUIRE_KEY, or --open to serve everybody"
        yield Finding("listens on", found, Verdict.ADVICE, advice)
    else:
        yield Finding("listens on", found)
    yield keys(settings)


def keys(settings: Settings) -> Finding:
    if settings.api_keys_file is None:
        return Finding("keys", "none")
    try:
        count = len(load(settings.api_keys_file))
    except ConfigurationError as error:
        return Finding("keys", str(error), Verdict.ADVICE, "correct the file, or make it with `serverpy keys add`")
    return Finding("keys", f"{count} in {settings.api_keys_file}{', required' if settings.require_key else ''}")
