"""Tests that the lock files pin every package by version and hash, and contain no package index, URL or path."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-rivals.lock"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
NAME = PROJECT["project"]["name"]
RUNTIME = [
    *PROJECT["project"]["dependencies"],
    *(line for extra in EXTRAS.values() for line in extra if Requirement(line).name != NAME),
]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]
RIVALS = PROJECT["dependency-groups"]["rivals"]


def entries(lock: str) -> dict[str, list[str]]:
    """Return the hashes of each requirement in a lock file, by the line of the requirement."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line.startswith("    --hash="):
            found[next(reversed(found))].append(line.strip(" \\"))
        else:
            found[line.removesuffix("\\").strip()] = []
    return found


def versions(lock: str) -> dict[str, set[Version]]:
    found: dict[str, set[Version]] = {}
    for line in entries(lock):
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        found.setdefault(canonicalize_name(requirement.name), set()).add(Version(pin.version))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_of_a_lock_file_has_a_version_and_hashes(lock: str) -> None:
    for line, hashes in entries(lock).items():
        assert re.fullmatch(r"[a-z0-9._-]+==[^\s;]+( ; .+)?", line), line
        assert hashes, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in hashes), line


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_contain_neither_a_package_index_nor_a_url_nor_a_path(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^-|@|\.whl|\.tar|^\s*[./~]|^#", text, re.MULTILINE)


@pytest.mark.parametrize(("lock", "wanted"), list(zip(LOCKS, [RUNTIME, [*RUNTIME, *DEVELOPMENT], RIVALS], strict=True)))
def test_every_dependency_is_locked_in_a_version_that_pyproject_toml_allows(lock: str, wanted: list[str]) -> None:
    locked = versions(lock)
    for requirement in map(Requirement, wanted):
        found = locked.get(canonicalize_name(requirement.name))
        assert found, f"{requirement.name} is not in {lock}: run make lock"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in found), requirement


def test_the_development_lock_has_the_package_versions_of_the_runtime_lock() -> None:
    development = versions(LOCKS[1])
    for name, pinned in versions(LOCKS[0]).items():
        assert development.get(name) == pinned, f"{name} differs: run make lock"


def test_the_lock_file_of_the_rival_programs_has_the_same_version_of_yt_dlp_as_the_runtime_lock_file() -> None:
    """If the versions of yt-dlp in the lock files differed, the benchmark would compare two versions of yt-dlp."""
    assert versions(LOCKS[2])["yt-dlp"] == versions(LOCKS[0])["yt-dlp"]
