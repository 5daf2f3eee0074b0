"""Tests that docs/media.md is right. They measure some samples of each kind again, but not the times and the reserved
bytes."""

from __future__ import annotations

import pytest

from serverpy.sample.site import SampleSite
from tests.media.measuring import MERGED, METHODS, WOVEN, facts_of
from tests.media.samples import DASH, FILES, HLS, LIVE, Sample, Written, written
from tests.media.table import PAGE, asked
from tests.server import Server

COLUMNS = 7
AGAIN = {
    "prog", "mp3", "headers", "post", "hls-ts", "hls-byterange", "hls-keys", "hls-discontinuity-fmp4", "hls-gap",
    "dash", "dash-on-demand",
}  # fmt: skip
"""Samples that the tests measure again by relay and embedded."""
CHILDREN = {"prog", "hls-ts", "hls-gap"}
PAIRS_AGAIN = {"pair", "pair-sidx", "pair-last", "pair-cut"}
SAMPLES = tuple(sample for sample in (*FILES, *HLS, *DASH) if sample.title in AGAIN)


def again() -> list[tuple[Sample, str]]:
    """Return the sample and the method of each row that the tests measure again."""
    rows = [(sample, method) for sample in SAMPLES for method in METHODS[:2]]
    rows += [(sample, METHODS[2]) for sample in SAMPLES if sample.title in CHILDREN]
    rows += [(sample, METHODS[0]) for sample in LIVE]
    return rows + [
        (sample, method)
        for sample, method in asked()
        if sample.title in PAIRS_AGAIN or (method == WOVEN and sample in DASH) or method == MERGED
    ]


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, str], list[str]]:
    """Return the cells of the table in docs/media.md, by sample and method."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], row[1]): row[2:] for row in rows if row[0] != "sample"}


@pytest.fixture(scope="module")
def expected(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(site, tmp_path_factory.mktemp("written"), SAMPLES)


def test_docs_media_md_has_a_row_for_every_sample_by_every_method(table: dict[tuple[str, str], list[str]]) -> None:
    assert list(table) == [(sample.title, method) for sample, method in asked()]


def test_docs_media_md_has_an_empty_cell_only_in_a_row_that_states_the_reason(
    table: dict[tuple[str, str], list[str]],
) -> None:
    for exact, *others in table.values():
        assert len(others) == COLUMNS - 3
        assert all(others)
        assert exact.startswith(("yes", "no: "))
        assert "–" not in others or exact.startswith("no: ")


@pytest.mark.parametrize(("sample", "method"), again(), ids=str)
def test_a_row_of_docs_media_md_has_the_values_that_a_new_measurement_gives(
    server: Server, expected: Written, table: dict[tuple[str, str], list[str]], sample: Sample, method: str
) -> None:
    facts = facts_of(server, sample, method, expected.get(sample.title, {}))
    assert table[sample.title, method][:3] == [facts.exact, facts.length, facts.ranges]


def test_docs_media_md_states_for_every_merged_mp4_that_it_has_the_packets_of_its_sources(
    table: dict[tuple[str, str], list[str]],
) -> None:
    assert {cells[0] for (_, method), cells in table.items() if method == WOVEN} == {"yes, its packets"}
