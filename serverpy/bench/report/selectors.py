"""A figure in the raw results, as text: which row, and an expression over its fields.

    crowd(relay, 10, http)[peak_pss - base_pss]     a scenario, the key fields of the row (`results.KEYS`), fields
    crowd(target, max, http)[each_pss]              the claim's target; the largest crowd in which nothing failed
    sequential(relay, connections=1)[growth]        a key field by its name
    max(*hand_over(chunk_bytes=8192)[each_pss])     over all such rows
    1 - peak(relay, 10) / peak(subprocess, 10)      arithmetic, and the functions of `_FUNCTIONS`

The syntax is Python's; nothing is executed. If a row or field is missing, the result is a `NotMeasured` with the
reason.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from functools import cache

from serverpy.bench.report.results import KEYS, Figure, Found, NotMeasured, Results, Row, number
from serverpy.bench.report.units import digits

NONE = "none: "
MIXED_REQUESTS = 10_000
"""The number of requests in the limit for `mixed`."""
METER_SECONDS = 60
"""The server's own loop-lag meter covers the last minute."""
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def find(selector: str, results: Results, target: str = "") -> Found:
    """Evaluate `selector` on `results`. Raises ValueError if the selector is invalid."""
    if selector.startswith(NONE):
        return NotMeasured(selector.removeprefix(NONE))
    evaluation = _Evaluation(results, target)
    try:
        value = evaluation.value(_parsed(selector))
    except _MissingError as missing:
        return missing.why
    return Figure(value, "; ".join(dict.fromkeys(filter(None, evaluation.notes))))


@cache
def _parsed(selector: str) -> ast.expr:
    return ast.parse(selector, mode="eval").body


class _MissingError(Exception):
    def __init__(self, why: NotMeasured) -> None:
        super().__init__(why.reason)
        self.why = why


class _Evaluation:
    """One evaluation of a selector. `notes` are remarks on its rows for the reader."""

    def __init__(self, results: Results, target: str) -> None:
        self._results = results
        self._target = target
        self.notes: list[str] = []

    def value(self, node: ast.expr, row: Row | None = None) -> float:
        """Evaluate a node. If there is a `row`, a name in the node is a field of the row."""
        match node:
            case ast.Constant(value=int() | float() as constant):
                return float(constant)
            case ast.Name(id=name) if row is not None:
                return _given(number(row, name))
            case ast.BinOp(left=left, op=operation, right=right):
                first, second = self.value(left, row), self.value(right, row)
                if isinstance(operation, ast.Div) and second <= 0:
                    raise _MissingError(NotMeasured("too small to compare"))
                return _OPERATORS[type(operation)](first, second)
            case ast.Subscript(value=ast.Call() as call, slice=fields):
                scenario, where = self._where(call)
                found = _present(self._row(scenario, where))
                self.notes.append(_note(scenario, found, where, _names(fields)))
                return self.value(fields, found)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
                return _FUNCTIONS[name](self, arguments, row)
        raise ValueError(f"invalid selector: {ast.unparse(node)}")

    def _where(self, call: ast.Call) -> tuple[str, dict[str, object]]:
        assert isinstance(call.func, ast.Name)
        scenario = call.func.id.replace("_", "-")
        where = dict(zip(KEYS.get(scenario, ()), map(self._word, call.args), strict=False))
        return scenario, where | {str(word.arg): self._word(word.value) for word in call.keywords}

    def _word(self, node: ast.expr) -> object:
        if isinstance(node, ast.Name):
            return self._target if node.id == "target" else node.id
        return ast.literal_eval(node)

    def _row(self, scenario: str, where: dict[str, object]) -> Row | NotMeasured:
        if scenario == "machine":
            return self._results.meta.get("machine") or {}
        return self._results.row(scenario, **where)

    # Functions

    def largest(self, arguments: list[ast.expr], row: Row | None) -> float:
        return max(value for argument in arguments for value in self._values(argument, row))

    def _values(self, node: ast.expr, row: Row | None) -> Iterator[float]:
        match node:
            case ast.Starred(value=ast.Subscript(value=ast.Call() as call, slice=fields)):
                scenario, where = self._where(call)
                rows = self._results.rows(scenario, **where)
                if not rows:
                    raise _MissingError(self._results.nothing(scenario))
                yield from (self.value(fields, each) for each in rows)
            case _:
                yield self.value(node, row)

    def peak(self, arguments: list[ast.expr], _row: Row | None) -> float:
        """Return the memory of the whole process tree with that many slow readers. If the run did not measure that many
        children, extrapolate from the largest measured number, and add a note: each further child is one more
        process."""
        target, clients = self._word(arguments[0]), self.value(arguments[1])
        found = self._results.row("crowd", target=target, clients=clients, scheme="http")
        if target == "subprocess" and isinstance(found, NotMeasured) and not found.failed:
            largest = self._results.row("crowd", target=target, clients="max", scheme="http")
            if not isinstance(largest, NotMeasured):
                self.notes.append(f"extrapolated from {largest['clients']} at once")
                return _given(number(largest, "base_pss")) + clients * _given(number(largest, "each_pss"))
        return _given(number(found, "peak_pss"))

    def beside_nginx(self, arguments: list[ast.expr], _row: Row | None) -> float:
        """Return the first figure, with its ratio to the second as a note."""
        ours = self.value(arguments[0])
        try:
            nginx = self.value(arguments[1])
        except _MissingError:
            nginx = 0.0
        if nginx > 0:
            self.notes.append(f"{digits(ours / nginx)} × nginx")
        return ours

    def carried_of(self, arguments: list[ast.expr], row: Row | None) -> float:
        """Return how many clients were served. Raises _MissingError if all were served but fewer connected than the
        third argument, because the run has not found the limit then."""
        carried, least = self.value(arguments[0], row), self.value(arguments[2])
        asked = None if row is None else row.get(ast.unparse(arguments[1]))
        if asked is not None and carried >= asked:
            if carried < least:
                raise _MissingError(NotMeasured(f"only {asked:,} clients connected, and all were served"))
            self.notes.append("all that connected")
        return carried


_FUNCTIONS: dict[str, Callable[[_Evaluation, list[ast.expr], Row | None], float]] = {
    "max": _Evaluation.largest,
    "peak": _Evaluation.peak,
    "beside_nginx": _Evaluation.beside_nginx,
    "carried_of": _Evaluation.carried_of,
}


def _given(found: Found) -> float:
    if isinstance(found, NotMeasured):
        raise _MissingError(found)
    return found.value


def _present(row: Row | NotMeasured) -> Row:
    if isinstance(row, NotMeasured):
        raise _MissingError(row)
    return row


def _names(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _note(scenario: str, row: Row, where: dict[str, object], fields: set[str]) -> str:
    """Return the conditions under which these fields were measured, if they differ from those of the claim."""
    match scenario:
        case "crowd" if "max" in where.values() and fields == {"each_pss"}:
            return f"{row['clients']:,} at once"
        case "sequential" if row["requests"] != 100:
            return f"{row['requests']} requests"
        case "over-time" if fields == {"peak"} and row["clients"]:
            return f"{row['clients']} clients"
        case "profiles" if "peak_pss" in fields:
            return f"{row['carried']:,} streams"
        case "mixed" if row["requests"] < MIXED_REQUESTS:
            return f"{row['requests']:,} requests"
        case "promise":
            return f"{row['served']:,} of {row['clients']:,} served, {row['refused']:,} refused with Retry-After"
        case "saturation" if "lag_p99" in fields and row["seconds"] < METER_SECONDS:
            meter = digits(float(row.get("lag_seconds") or METER_SECONDS))
            return f"{digits(float(row['seconds']))} s of the {meter} s that the meter covers"
    return ""
