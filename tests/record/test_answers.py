"""Tests that the server's answers equal those in tests/record/answers.json.

To save time, these tests send only some of the recorded requests: each sample by `relay` with three ranges, and by
HEAD, which is `auto`; the groups in MORE also by `embedded` and for their `/info`; hostile media by `relay` without a
range; two pages by `subprocess`. `scripts/record_answers.py --check` sends all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.record.answers import Asker, Record, answers, asking, differences
from tests.record.samples import GROUPS, HEAD, INFO, SAMPLES, SUBPROCESS, Case, Sample, cases

FILE = Path(__file__).parent / "answers.json"
SECONDS = 600
"""Timeout in seconds of a group of samples, long enough for a busy machine."""
JOBS = 4
MORE = frozenset({"pages", "tube", "parameters", "elsewhere"})
"""Groups of samples that the tests also request by `embedded`, and whose `/info` they request."""
CHILDREN = frozenset({"/page/prog", "/page/hls-ts"})
"""Pages that are requested by `subprocess`."""


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    with asking() as asker:
        yield asker


@pytest.fixture(scope="module")
def recorded() -> Record:
    return Record.read(FILE)


def chosen(group: str, case: Case) -> bool:
    if case.method == SUBPROCESS:
        return str(case.sample) in CHILDREN and case.range is None
    if case.method == "relay":
        return group != "hostile" or case.range is None
    if case.kind == HEAD:
        return group not in ("hostile", "faults")
    return group in MORE and case.kind in ("embedded", INFO)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("group", GROUPS)
def test_the_server_gives_the_answers_in_tests_record_answers_json(asker: Asker, recorded: Record, group: str) -> None:
    found = answers(asker, GROUPS[group], lambda case: chosen(group, case), JOBS)
    changed = differences(recorded, Record(asker.files.fingerprint, found), found)
    assert not changed, "\n".join(changed)


def test_the_record_has_an_answer_for_every_request() -> None:
    names = {str(case) for sample in SAMPLES for case in cases(sample)}
    assert names == set(Record.read(FILE).answers)


def test_a_record_that_is_read_and_written_again_is_unchanged(recorded: Record) -> None:
    assert recorded.text() == FILE.read_text(encoding="utf-8")


def test_a_changed_answer_is_reported_as_a_difference(recorded: Record) -> None:
    name = f"{Sample('/page/prog')} relay"
    before = recorded.answers[name]
    other = Record(recorded.media, {name: {**before, "body": "prog-180.mp4"}})
    removed, added = differences(recorded, other, [name])
    assert removed.startswith(f"- {name} ")
    assert added.startswith(f"+ {name} ")
    assert "prog-180.mp4" in added
    assert not differences(recorded, recorded, recorded.answers)


def test_a_missing_answer_in_the_record_is_reported_as_a_difference(recorded: Record) -> None:
    name = f"{Sample('/page/prog')} relay"
    (removed,) = differences(recorded, Record(recorded.media, {}), [name])
    assert removed.startswith(f"- {name} ")


def test_if_the_sample_media_differ_from_those_of_the_record_answers_are_compared_without_lengths_and_hashes(
    recorded: Record,
) -> None:
    name = f"{Sample('/tube/watch/pair')} relay bytes=-1000"
    before = recorded.answers[name]
    span = {"content-length": "999", "content-range": "bytes 2-1000/1001"}
    answer = {**before, "body": f"999 bytes {'0' * 64}", "headers": {**before["headers"], **span}}
    assert differences(recorded, Record(recorded.media, {name: answer}), [name])
    assert not differences(recorded, Record("other media", {name: answer}), [name])
    assert differences(recorded, Record("other media", {name: {**answer, "status": 200}}), [name])
