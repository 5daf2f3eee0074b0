"""Tests of `serverpy doctor`, which reports the packages that are installed or missing, and how to install the missing
ones."""

from __future__ import annotations

import io
import json
import resource
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import serverpy
from serverpy.cli import doctor
from serverpy.cli.doctor import Finding, Verdict
from serverpy.extras import Extra
from serverpy.settings import load_settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_doctor_finds_the_packages_installed_in_the_test_environment() -> None:
    done = CliRunner().invoke(doctor.command, env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for subject in ("python", "yt-dlp", "yt-dlp-ejs", "deno", "av", "curl-cffi", "uvloop", "machine", "pipes"):
        assert subject in done.output
    assert "pip install" not in done.output.rpartition("└")[2]


@pytest.mark.parametrize("columns", [None, 40, 60, 80])
def test_doctor_shows_every_finding_in_full_at_every_width_of_the_output(
    monkeypatch: pytest.MonkeyPatch, columns: int | None
) -> None:
    found = [Finding("a path", "/a/" + "long/" * 30 + "end", Verdict.ADVICE, "x" * 90), Finding("b", "c")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    if columns is None:  # stdout is a pipe, which programs read
        lines = CliRunner().invoke(doctor.command, env={"COLUMNS": "40"}).stdout.splitlines()
        assert any(found[0].found in line and found[0].advice in line for line in lines)
        return
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(doctor._table(found))
    cells = [line.split("│") for line in console.export_text().splitlines() if "│" in line]
    for column, text in ((2, found[0].found), (4, found[0].advice)):
        assert text in "".join(cell[column].strip() for cell in cells)


def test_doctor_prints_its_findings_as_json() -> None:
    done = CliRunner().invoke(doctor.command, ["--json"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["version"]) == (0, serverpy.__version__)
    verdicts = {each["subject"]: each["verdict"] for each in document["findings"]}
    assert verdicts["uvloop"] == "ok"
    assert set(verdicts.values()) <= {"ok", "advice", "missing"}


def test_doctor_reports_invalid_settings_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERPY_PORT", "x")
    done = CliRunner().invoke(doctor.command, env={"COLUMNS": "200"})
    assert done.exit_code == 1
    assert "serverpy: missing: settings" in done.output


def test_doctor_reports_an_essential_package_that_is_missing() -> None:
    finding = doctor.package("no_such_module", "no-such", "does nothing")
    assert finding.verdict is Verdict.MISSING
    assert finding.advice == "pip install --force-reinstall no-such (does nothing)"


def test_doctor_reports_a_missing_extra_and_the_command_that_installs_it() -> None:
    finding = doctor.optional(Extra("fun", {"click": "click", "no_such_module": "no-such"}, "have fun"))
    assert (finding.subject, finding.found) == ("extra fun", "not installed: no-such")
    assert finding.verdict is Verdict.ADVICE
    assert finding.advice == "to have fun: pip install 'serverpy-stream[fun]'"


def test_doctor_reports_an_extra_that_cannot_be_imported_as_not_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_elsewhere.py").write_text("raise ImportError('wrong machine')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = doctor.optional(Extra("fun", {"made_elsewhere": "made-elsewhere"}, "have fun"))
    assert finding.found == "made-elsewhere is not usable: wrong machine"
    assert finding.verdict is Verdict.ADVICE


@pytest.mark.parametrize(
    ("version", "released"),
    [
        ("2026.8.19", date(2026, 8, 19)),
        ("2026.08.19.1", date(2026, 8, 19)),
        ("1.2", None),
        ("2026.13.1", None),
        ("nightly", None),
    ],
)
def test_doctor_reads_the_release_date_of_ytdlp_from_its_version(version: str, released: date | None) -> None:
    assert doctor.release_date(version) == released


def test_doctor_advises_to_upgrade_an_old_ytdlp() -> None:
    assert doctor.yt_dlp(date(2020, 1, 1)).verdict is Verdict.FINE
    old = doctor.yt_dlp(date(2090, 1, 1))
    assert old.verdict is Verdict.ADVICE
    assert "days old" in old.found


def test_doctor_reports_whether_deno_is_installed(tmp_path: Path) -> None:
    assert doctor.javascript().verdict is Verdict.FINE
    program = tmp_path / "deno"
    program.touch(mode=0o644)
    assert doctor.javascript(lambda: str(program)).verdict is Verdict.ADVICE
    missed = doctor.javascript(lambda: None)
    assert missed.verdict is Verdict.ADVICE
    assert "serverpy-stream[js]" in missed.advice


def test_doctor_reports_a_file_descriptor_limit_that_is_too_low_for_max_streams() -> None:
    assert doctor.files(1000, 1024).verdict is Verdict.ADVICE
    assert doctor.files(100, 1024).verdict is Verdict.FINE
    assert doctor.files(10**6, resource.RLIM_INFINITY).verdict is Verdict.FINE


def test_doctor_reports_a_pipe_page_limit_that_is_too_low(tmp_path: Path) -> None:
    (tmp_path / "pipe-max-size").write_text("1048576\n")
    for pages, verdict in (("1024", Verdict.ADVICE), ("16384", Verdict.FINE), ("0", Verdict.FINE)):
        (tmp_path / "pipe-user-pages-soft").write_text(f"{pages}\n")
        assert doctor.pipes(tmp_path).verdict is verdict


def test_doctor_reports_a_memory_budget_that_leaves_the_processes_too_little_memory() -> None:
    settings = load_settings(memory_budget="1GiB", workers=2)
    assert doctor.budget(settings, 4 << 30) == doctor.Finding("memory budget", "2.0 GiB of 4.0 GiB")
    assert doctor.budget(settings, 3 << 30).verdict is Verdict.ADVICE


@pytest.mark.parametrize(
    ("settings", "verdict", "keys"),
    [
        ({}, Verdict.FINE, "none"),
        ({"host": "0.0.0.0"}, Verdict.ADVICE, "none"),
        ({"open": True}, Verdict.ADVICE, "none"),
        ({"host": "0.0.0.0", "require_key": True, "api_keys_file": "keys.toml"}, Verdict.FINE, "0 in "),
    ],
)
def test_doctor_shows_who_may_use_the_server(
    settings: dict[str, Any], verdict: Verdict, keys: str, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").touch()
    listens, found = doctor.reached(load_settings(**settings))
    assert listens.verdict is verdict
    assert found.found.startswith(keys)


def test_doctor_reports_a_faulty_keys_file(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("[")
    finding = doctor.keys(load_settings(api_keys_file="keys.toml"))
    assert finding.verdict is Verdict.ADVICE
    assert "not valid TOML" in finding.found


def test_doctor_warns_of_open_access_and_does_not_show_the_proxy_url() -> None:
    settings = load_settings(host="0.0.0.0", allow_networks="10.0.0.0/8", proxy="http://me:hush@proxy:1")
    findings = {finding.subject: finding for finding in doctor.guarded(settings)}
    assert findings["listens on"].verdict is Verdict.ADVICE
    assert "10.0.0.0/8" in findings["private networks"].found
    assert findings["proxy"].found == "set"
