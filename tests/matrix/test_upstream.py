"""Tests of media servers that fail at the first byte, in the middle or at the last byte of a response, with every
streaming method."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.failures import IN_THE_BODY, INSTEAD_OF_A_RESPONSE
from serverpy.sample.site import SampleSite
from tests.matrix.beside import nothing_left, unharmed
from tests.matrix.cells import METHODS, PLACES, Cell, Expected, documented, judge, run_all
from tests.server import Server

STATUSES = ("403", "404", "410", "416", "429", "500", "503")
HARMLESS = ("drip",)


def table() -> Iterator[Cell]:
    """Yield all cells. Their order ensures that every fifth cell is enough to cover all methods, all places of a
    failure and all kinds of failures."""
    for how in (*IN_THE_BODY, *INSTEAD_OF_A_RESPONSE, *STATUSES):
        for place in PLACES:
            for method in METHODS:
                scheme = "https" if how == "tls" else "http"
                yield Cell(f"{how} {place}", f"fails={how}@{place}", method, how not in HARMLESS, scheme)
    for told in ("told", "silent"):
        for place in PLACES[1:]:
            for method in METHODS:
                if (told, method) != ("silent", "weave"):  # weaving requests no byte twice, see docs/reliability.md
                    yield Cell(f"changed {told} {place}", f"fails=short@{place},changes={told}", method)
    for method in METHODS:
        yield Cell("no fault", "etag=flip", method, fatal=False)
        yield Cell("surplus", "surplus=5000", method, fatal=False)
        yield Cell("surplus and no range", "surplus=5000,norange", method, fatal=False)
        yield Cell("malformed", "malformed", method)
        yield Cell("cut and no length", "cut=700000,norange,nolength", method, fatal=method == "weave")


CELLS = list(table())
FIFTH = [cell for number, cell in enumerate(CELLS[::5]) if cell.method != "subprocess" or number % 8 < 4]
"""A fifth of the cells, but only half of the cells by `subprocess`, because each child process takes seconds of CPU
time."""
GROUPS = {
    name: [cell for cell in CELLS if cell.name.partition(" ")[0] == name]
    for name in dict.fromkeys(cell.name.partition(" ")[0] for cell in CELLS)
}


def run_cells(server: Server, expected: Expected, cells: list[Cell]) -> list[str]:
    def ask(cell: Cell) -> str | None:
        answer = server.get(cell.url(server.site), **cell.parameters)
        return judge(cell, answer, expected)

    with nothing_left(server), unharmed(server):
        return run_all(cells, ask)


def test_after_media_server_failures_in_a_fifth_of_the_cells_each_response_is_complete_or_cut_or_a_documented_error(
    impatient: Server, expected: Expected
) -> None:
    """A fifth of the cells is enough to contain every method, and every failure that can happen at the first, middle or
    last byte."""
    assert {cell.method for cell in FIFTH} == set(METHODS)
    assert {*IN_THE_BODY, *INSTEAD_OF_A_RESPONSE, *STATUSES} <= {cell.name.partition(" ")[0] for cell in FIFTH}
    wrong = run_cells(impatient, expected, FIFTH)
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.parametrize("group", GROUPS)
def test_after_each_media_server_failure_the_response_is_complete_or_cut_or_a_documented_error(
    impatient: Server, expected: Expected, group: str
) -> None:
    wrong = run_cells(impatient, expected, GROUPS[group])
    assert not wrong, "\n".join(wrong)


def test_judge_accepts_a_complete_or_cut_response_with_right_bytes_and_rejects_a_wrong_or_undocumented_one(
    impatient: Server, expected: Expected, site: SampleSite
) -> None:
    fatal, harmless = Cell("any", "", "relay"), Cell("any", "", "relay", fatal=False)
    whole = impatient.get("/tube/watch/headers")
    assert judge(harmless, whole, expected) is None
    assert judge(fatal, whole, expected) is not None
    assert judge(harmless, impatient.get("/media/clip.mp4"), expected) is not None
    assert judge(harmless, impatient.ask("/nothing"), expected) is not None
    cut = impatient.get("/tube/watch/fault/fails=short@middle,id=judge/headers")
    assert judge(fatal, cut, expected) is None
    assert len(cut.body) > len(expected.film) // 3


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_request_for_media_is_answered_with_502_if_the_media_server_has_an_untrusted_certificate(
    impatient: Server, method: str
) -> None:
    with SampleSite(https_port=0) as stranger, nothing_left(impatient):
        answer = impatient.get(f"{stranger.https}/media/prog.mp4", method=method)
    assert documented(answer)
    assert answer.status == 502
