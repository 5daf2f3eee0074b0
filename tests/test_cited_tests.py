"""Tests that the tests named by the documentation exist, and that the threat model names a module and a test for each
threat."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TESTS = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").rglob("test_*.py")}
_CODE = re.compile(r"`([^`\n]+)`")
_TEST = re.compile(r"(?:(?P<file>…|[\w/]*test_\w+\.py)?::)?(?P<name>test_\w+)(?P<more>…)?")
_FILE = re.compile(r"[\w/]*\btest_\w+\.py")
_MODULE = re.compile(r"[\w/]+\.py")
THREATS = ["threat", "defence", "test", "left over"]
"""Heads of the columns in the tables of `docs/security.md` that list threats."""
UNTESTED = "–"


def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


def unknown(text: str, tests: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield each test file or test that `text` names in backquotes but that does not exist. `tests` maps each test file
    to the names of its tests. A file may be named by the end of its path, and a test by its beginning if an ellipsis
    follows. An ellipsis in place of a file stands for any file."""
    for code in _CODE.findall(text):
        if _FILE.fullmatch(code):
            if not any(_ends_with(file, code) for file in tests):
                yield code
        elif match := _TEST.fullmatch(code):
            file, name, more = match["file"], match["name"], match["more"]
            files = [each for each in tests if file in (None, "…") or _ends_with(each, file)]
            if not any(found.startswith(name) if more else found == name for each in files for found in tests[each]):
                yield code


def _ends_with(file: str, end: str) -> bool:
    return f"/{file}".endswith(f"/{end}")


def test_every_test_that_a_page_of_the_documentation_names_exists() -> None:
    tests = {file: names_in(path) for file, path in TESTS.items()}
    missing = {page.name: found for page in PAGES if (found := list(unknown(page.read_text(), tests)))}
    assert missing == {}


def test_a_missing_test_is_noticed_in_whatever_form_a_page_names_it() -> None:
    tests = {"tests/net/test_a.py": frozenset({"test_one_thing"}), "tests/test_b.py": frozenset({"test_two"})}
    right = "`test_a.py`, `net/test_a.py::test_one_thing`, `::test_one…`, `…::test_two`, `test_two`, `tests/test_b.py`"
    wrong = ["test_c.py", "test_b.py::test_one_thing", "test_tw", "::test_three…", "et/test_a.py"]
    assert list(unknown(right, tests)) == []
    assert list(unknown(", ".join(f"`{name}`" for name in wrong), tests)) == wrong


def threats(page: str) -> Iterator[list[str]]:
    """Yield the cells of each row in the tables of threats of `page`."""
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" |")]
        if not line.startswith("|"):
            inside = False
        elif cells == THREATS:
            inside = True
        elif inside and not line.startswith("|---"):
            yield cells


def test_each_threat_in_docs_security_md_has_a_defence_and_a_test_or_states_that_no_test_tries_it() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    rows = list(threats(page))
    tested = [row for row in rows if row[2] != UNTESTED]
    assert len(tested) > 80
    assert [row for row in rows if len(row) != len(THREATS)] == []
    assert [row[0] for row in tested if not any(_TEST.fullmatch(code) for code in _CODE.findall(row[2]))] == []
    assert [row[0] for row in rows if not row[0] or not row[1] or (row[2] == UNTESTED and not row[3])] == []


def test_every_module_that_the_threat_model_names_exists() -> None:
    codes = _CODE.findall((ROOT / "docs" / "security.md").read_text())
    modules = {code for code in codes if _MODULE.fullmatch(code) and not code.startswith("tests/")}
    assert len(modules) > 50
    assert [module for module in sorted(modules) if not (ROOT / "serverpy" / module).is_file()] == []
