"""Tests of the files in the git repository. The lock files contain hashes, and no file contains a secret."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-rivals.lock")
SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"
    r"|\bAKIA[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}"
    r"|\bglpat-[A-Za-z0-9_-]{20}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|\bAIza[0-9A-Za-z_-]{35}\b"  # Google
    r"|\bpypi-[A-Za-z0-9_-]{50,}"
    r"|\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\."  # JSON Web Token
)
"""Pattern that matches private keys, and the access tokens of common services."""


def tracked() -> list[Path]:
    """Return the paths of all files that git tracks. Skips the test if the project is not a git repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("git: the project directory is not a git repository")
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in found.split("\0") if name]


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_of_a_lock_file_has_a_fixed_version_and_hashes(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) > 10
    faults = [line[0] for line in lines if "==" not in line[0] or "--hash=sha256:" not in " ".join(line)]
    assert faults == []


def test_each_npm_package_of_the_lock_file_has_a_hash_and_no_address_of_a_registry() -> None:
    packages = json.loads((ROOT / "tests" / "node" / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"].keys() == {"mpd-parser", "puppeteer-core"}
    assert [name for name, each in packages.items() if "sha512-" not in each["integrity"] or "resolved" in each] == []


def test_no_file_contains_a_private_key_or_an_access_token_of_a_common_service() -> None:
    faults = [str(path) for path in tracked() if SECRETS.search(path.read_text(errors="replace"))]
    assert faults == []


@pytest.mark.parametrize("secret", ["-----BEGIN RSA PRIVATE " + "KEY-----", "AKIA" + "A" * 16, "ghp_" + "a1" * 18])
def test_the_pattern_for_secrets_matches_private_keys_and_access_tokens(secret: str) -> None:
    assert SECRETS.search(f"key = '{secret}'")
