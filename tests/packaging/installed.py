"""The distribution as a user gets it: the sdist and the wheel are built from this checkout, and pip installs the wheel
into an empty environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serverpy.extras import DISTRIBUTION
from tests.test_lock import ROOT, entries

SECONDS = 240.0
UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|Connection refused|ProxyError")
MB = 10**6


@dataclass(frozen=True)
class Installation:
    """An environment that contains only the wheel and its dependencies. Its sizes do not include pip, which every new
    environment contains."""

    folder: Path
    bytes: int
    bytes_without_bytecode: int

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the installed `serverpy` command in the environment's folder, without a terminal."""
        return subprocess.run(
            [self.folder / "bin" / "serverpy", *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


def build(output: Path) -> tuple[Path, Path]:
    """Build the sdist and the wheel in the same way as `make dist`. Returns the paths of the sdist and of the wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def install(wheel: Path, folder: Path) -> Installation:
    """Install `wheel` without extras, with the dependencies in the versions of requirements.lock. If pip cannot reach a
    package index, the test is skipped, or fails if the environment variable CI is true."""
    venv.create(folder, with_pip=True)
    before = set(_files(folder))
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(entries("requirements.lock")))
    done = subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "--retries=1", "--timeout=20", "-c", constraints, wheel],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode and UNREACHABLE.search(done.stdout + done.stderr):
        message = f"the package index cannot be reached, so {DISTRIBUTION} cannot be installed"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    assert done.returncode == 0, done.stdout + done.stderr
    constraints.unlink()
    added = [path for path in _files(folder) if path not in before]
    return Installation(
        folder,
        sum(path.lstat().st_size for path in added),
        sum(path.lstat().st_size for path in added if path.suffix != ".pyc"),
    )


def largest(folder: Path, count: int = 8) -> str:
    """Return the names and sizes of the largest packages of the environment, as text for the message of a failed
    assertion."""
    (packages,) = folder.glob("lib/python*/site-packages")
    sizes = {each.name: sum(path.lstat().st_size for path in (each, *_files(each))) for each in packages.iterdir()}
    ordered = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:count]
    return ", ".join(f"{name} {sizes[name] / MB:.1f} MB" for name in ordered)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
