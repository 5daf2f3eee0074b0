"""Tests of the table that maps error classes to HTTP statuses and error codes, and of the problem documents that are
made from errors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from serverpy import errors
from serverpy.api.problems import MEDIA_TYPE, STATUS, problem, row
from serverpy.errors import Busy, ConfigurationError, RangeNotSatisfiable, ServerPYError
from serverpy.extraction.messages import RawGone, WorkerFull, WorkerLost

INTERNAL = {ConfigurationError, RawGone, WorkerFull, WorkerLost}
"""Error classes that no client receives: the server raises ConfigurationError only at startup, and catches the other
three errors itself."""


def leaves(kind: type[ServerPYError]) -> Iterator[type[ServerPYError]]:
    """Yield the leaf classes below `kind` that `errors.py` defines. Subclasses that other modules define are left
    out."""
    below = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    if not below:
        yield kind
    for child in below:
        yield from leaves(child)


LEAVES = sorted(leaves(ServerPYError), key=lambda kind: kind.__name__)


def everything(kind: type[ServerPYError]) -> Iterator[type[ServerPYError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from everything(child)


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if kind not in INTERNAL])
def test_every_leaf_error_class_has_a_status_and_a_code(kind: type[ServerPYError]) -> None:
    assert kind in STATUS
    assert kind.code


def test_every_row_of_the_table_of_statuses_belongs_to_a_leaf_error_class() -> None:
    assert set(STATUS) <= set(LEAVES)


def test_every_leaf_error_class_has_a_different_code() -> None:
    codes = [kind.code for kind in LEAVES]
    assert len(set(codes)) == len(codes)


def test_an_error_class_defined_in_another_module_has_the_status_and_code_of_its_parent_class() -> None:
    derived = [
        kind
        for kind in everything(ServerPYError)
        if kind.__module__ != errors.__name__ and kind not in INTERNAL and "bench" not in kind.__module__
    ]
    for kind in derived:
        assert any(parent in STATUS for parent in kind.__mro__), kind


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if kind in STATUS])
def test_an_error_is_converted_to_a_problem_document(kind: type[ServerPYError]) -> None:
    answer = problem(kind('It "failed".'))
    document = json.loads(bytes(answer.body))
    assert answer.status_code == document["status"] == STATUS[kind][0]
    assert answer.media_type == MEDIA_TYPE
    assert document == {
        "type": "about:blank",
        "title": STATUS[kind][1],
        "status": answer.status_code,
        "code": kind.code,
        "detail": 'It "failed".',
    }


def test_retry_after_of_a_busy_error_is_at_least_one_second() -> None:
    assert problem(Busy("No.", retry_after=7)).headers["retry-after"] == "7"
    assert problem(Busy("No.", retry_after=0)).headers["retry-after"] == "1"


def test_the_problem_document_of_an_unsatisfiable_range_has_content_range_if_the_length_of_the_file_is_known() -> None:
    assert problem(RangeNotSatisfiable("No.", 42)).headers["content-range"] == "bytes */42"
    assert "content-range" not in problem(RangeNotSatisfiable("No.")).headers


def test_an_error_class_without_a_row_in_the_status_table_is_answered_with_500() -> None:
    assert row(ConfigurationError("No."))[0] == 500
