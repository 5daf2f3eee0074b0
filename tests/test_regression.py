"""Tests of scripts/regression.py. Its verdict depends only on the measured values, and its clients refuse wrong
responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.regression import (
    FIGURES,
    Figure,
    Round,
    RunError,
    Verdict,
    check_checkout,
    judge,
    overall,
    spread_of,
    table,
)
from scripts.regression_reader import Framing, ReadError, Request

FIGURE = Figure("cpu", "CPU per GB", "ms/GB", 1e3, "cpu")
QUIET = (1.01, 0.99, 1.02, 1.0, 0.98)
NOISY = (1.12, 0.9, 1.5, 1.1, 0.95)


def rounds(ratios: Sequence[float], base: float = 0.5) -> list[Round]:
    return [Round({"cpu": base}, {"cpu": base * ratio}, {"cpu": 0.25}) for ratio in ratios]


@pytest.mark.parametrize(
    ("same", "ratios", "verdict"),
    [
        (QUIET, (0.7, 0.75, 0.8, 0.7, 0.7), Verdict.OK),
        (QUIET, (1.04, 1.05, 1.03, 1.06, 1.04), Verdict.OK),
        (QUIET, (1.07, 1.06, 1.0, 1.08, 1.06), Verdict.WORSE),
        (QUIET, (1.0, 1.01, 3.0, 2.0, 1.0), Verdict.OK),
        (NOISY, (1.11, 1.08, 1.1, 1.3, 0.9), Verdict.OK),
        (NOISY, (1.2, 1.15, 1.14, 1.3, 0.9), Verdict.WORSE),
    ],
    ids=["better", "within the floor", "worse", "two outliers", "within the spread", "beyond the spread"],
)
def test_the_verdict_on_a_figure_depends_on_the_median_ratio_and_the_limit_of_the_figure(
    same: Sequence[float], ratios: Sequence[float], verdict: Verdict
) -> None:
    assert judge(FIGURE, rounds(same), rounds(ratios)).verdict is verdict


def test_the_spread_of_five_ratios_ignores_the_largest_deviation() -> None:
    assert spread_of(NOISY) == pytest.approx(0.12)
    assert spread_of((1.0, 0.8)) == pytest.approx(0.2)


def test_a_change_between_rounds_that_affects_both_checkouts_does_not_change_the_verdict() -> None:
    drifting = [*rounds((1.0, 1.01)), *rounds((1.0, 0.99, 1.0), base=5.0)]
    assert judge(FIGURE, drifting, drifting).ratio == pytest.approx(1.0)


@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("part", ["A/A", "A/B"])
def test_a_figure_with_a_missing_value_in_any_round_is_missing(part: str, value: float | None) -> None:
    broken = rounds(QUIET)
    broken[2] = Round({"cpu": 0.5}, {} if value is None else {"cpu": value}, {"cpu": 0.25})
    judged = judge(FIGURE, *((broken, rounds(QUIET)) if part == "A/A" else (rounds(QUIET), broken)))
    assert judged.verdict is Verdict.MISSING
    assert "not ok: cpu MISSING" in overall([judged])


def test_a_figure_without_rounds_is_missing() -> None:
    assert judge(FIGURE, [], rounds(QUIET)).verdict is Verdict.MISSING
    assert judge(FIGURE, rounds(QUIET), []).verdict is Verdict.MISSING


def test_a_figure_measured_by_the_wall_clock_has_a_wider_limit() -> None:
    (first_byte,) = (figure for figure in FIGURES if figure.name == "first-byte")
    slower = [Round({"first-byte": 0.002}, {"first-byte": 0.0024}, {})] * 5
    same = [Round({"first-byte": 0.002}, {"first-byte": 0.002}, {})] * 5
    assert judge(first_byte, same, slower).verdict is Verdict.OK


def test_the_table_shows_each_figure_as_a_multiple_of_that_of_nginx() -> None:
    judged = judge(FIGURE, rounds(QUIET), rounds((1.5,) * 5))
    assert judged.base == pytest.approx(2.0)
    assert judged.other == pytest.approx(3.0)
    assert table([judged]).splitlines()[1].split()[-1] == "WORSE"
    assert overall([judged]) == "overall: not ok: cpu WORSE"


def test_the_yardstick_of_every_figure_is_the_name_of_a_figure() -> None:
    names = {figure.name for figure in FIGURES}
    assert {figure.yardstick for figure in FIGURES} - {None} <= names


def test_the_error_for_a_checkout_without_a_venv_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make install"):
        check_checkout(tmp_path)


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_complete_response_is_accepted_however_it_is_split_into_reads(answer: bytes, step: int) -> None:
    framing = Framing(Request("/", 5))
    for start in range(0, len(answer), step):
        assert not framing.over
        framing.feed(memoryview(answer[start : start + step]))
    framing.check()


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH.replace(b"200 OK", b"503 Busy"),
        LENGTH.replace(b"Length: 5", b"Length: 6"),
        LENGTH + b"!",
        LENGTH[:-1],
        CHUNKED[:-5],
        CHUNKED.replace(b"llo\r\n", b"llo!!"),
        CHUNKED.replace(b"3;x=y\r\nllo", b"2\r\nll"),
        CHUNKED.replace(b"3;x=y\r\nllo", b"4\r\nllo!"),
        b"",
    ],
)
def test_an_incomplete_or_malformed_response_or_a_status_other_than_200_is_refused(answer: bytes) -> None:
    framing = Framing(Request("/", 5))

    def read() -> None:
        framing.feed(memoryview(answer))
        framing.check()

    with pytest.raises(ReadError):
        read()
