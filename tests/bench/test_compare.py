"""Tests of the comparison of two benchmark runs. Only figures that both runs measured are compared."""

from __future__ import annotations

from typing import Any

from serverpy.bench.report.compare import Change, changes, compared, comparison
from serverpy.bench.report.page import Table
from serverpy.bench.report.results import Results, parse


def results(**rows: list[dict[str, Any]]) -> Results:
    scenarios = [{"name": name, "status": "done", "rows": found} for name, found in rows.items()]
    return parse({"meta": {"complete": True}, "scenarios": scenarios})


def crowd(clients: int, each: float | None, **more: Any) -> dict[str, Any]:
    return {"target": "relay", "clients": clients, "scheme": "http", "base_pss": 1e8, "each_pss": each, **more}


def test_rows_of_the_same_target_and_load_are_compared_field_by_field() -> None:
    found = list(changes(results(crowd=[crowd(10, 100.0), crowd(50, 80.0)]), results(crowd=[crowd(50, 60.0)])))
    what = "ServerPY relay, 50 clients, http"
    assert found == [Change("crowd", what, "base_pss", 1e8, 1e8), Change("crowd", what, "each_pss", 80.0, 60.0)]
    assert found[1].ratio == 0.75


def test_a_row_that_failed_in_either_run_or_is_missing_from_it_is_not_compared() -> None:
    earlier = results(crowd=[crowd(10, None), crowd(50, 80.0, failed=1), crowd(200, 80.0)])
    now = results(crowd=[crowd(10, 60.0), crowd(50, 60.0), crowd(200, 60.0, complete=199), crowd(1000, 60.0)])
    assert [(change.what, change.name) for change in changes(earlier, now)] == [
        ("ServerPY relay, 10 clients, http", "base_pss")
    ]


def test_rows_of_two_runs_match_even_if_their_measured_values_differ() -> None:
    def row(requests: int, rate: float) -> dict[str, Any]:
        return {"target": "nginx", "state": "cached", "requests": requests, "requests_per_cpu_second": rate}

    (change,) = changes(results(rate=[row(7000, 8000.0)]), results(rate=[row(7500, 9000.0)]))
    assert (change.before, change.now) == (8000.0, 9000.0)


def test_a_comparison_with_the_value_zero_has_no_ratio() -> None:
    row = {"target": "nginx", "requests": 100, "growth_pss": 0}
    (change,) = changes(results(sequential=[row]), results(sequential=[row]))
    assert change.ratio is None


def test_the_report_shows_the_figures_of_both_runs_and_their_ratio() -> None:
    def raw(each: float) -> dict[str, Any]:
        scenario = {"name": "crowd", "status": "done", "rows": [crowd(50, each)]}
        return {"meta": {"started": "2026-01-01T00:00:00+00:00"}, "scenarios": [scenario]}

    table = list(comparison(compared(raw(80_000.0), raw(60_000.0))))[-1]
    assert isinstance(table, Table)
    assert table.rows[1] == ("crowd: ServerPY relay, 50 clients, http", "each pss", "0.08 MB", "0.06 MB", "0.75 ×")
    assert list(comparison(None)) == []
