"""The tests that the documentation names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
TESTS = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").rglob("test_*.py")}
_CODE = re.compile(r"`([^`\n]+)`")
_TEST = re.compile(r"(?:(?P<file>…|[\w/]*test_\w+\.py)?::)?(?P<name>test_\w+)(?P<more>…)?")
_FILE = re.compile(r"[\w/]*\btest_\w+\.py")


def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


def unknown(text: str, tests: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield each test file or test that `text` names in backquotes and `tests`, the names by file, does not contain. A
    file may be named by the end of its path, and a test by its beginning if an ellipsis follows. An ellipsis in place
    of a file stands for any."""
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


def test_every_test_that_a_page_names_exists() -> None:
    tests = {file: names_in(path) for file, path in TESTS.items()}
    missing = {page.name: found for page in PAGES if (found := list(unknown(page.read_text(), tests)))}
    assert missing == {}


def test_a_missing_test_is_noticed_in_every_form() -> None:
    tests = {"tests/net/test_a.py": frozenset({"test_one_thing"}), "tests/test_b.py": frozenset({"test_two"})}
    right = "`test_a.py`, `net/test_a.py::test_one_thing`, `::test_one…`, `…::test_two`, `test_two`, `tests/test_b.py`"
    wrong = ["test_c.py", "test_b.py::test_one_thing", "test_tw", "::test_three…", "et/test_a.py"]
    assert list(unknown(right, tests)) == []
    assert list(unknown(", ".join(f"`{name}`" for name in wrong), tests)) == wrong
