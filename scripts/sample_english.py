"""A random sample of the project's English, drawn so that a reader can judge whether it is plain.

    python scripts/sample_english.py [--seed SEED] [--count 200]

The script prints a numbered list of docstrings, comments, error and log messages, help texts, descriptions of fields,
and test names of `serverpy/`, `tests/` and `scripts/`. The same seed gives the same list as long as no file changes.
The default seed is the current commit, so that each commit draws other texts.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import subprocess
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("serverpy", "tests", "scripts")
DIRECTIVE = re.compile(r"#\s*(?:type:|noqa|fmt:|ruff:|!|---)[^#]*")
"""Pattern of a directive in a comment, such as `noqa`. A reason may follow the directive after another `#`."""
LOG_CALL = re.compile(r"(?:\w+\.)*_?log(?:ger)?\.(?:debug|info|warning|error|exception|critical)")
PLACEHOLDER = re.compile(r"\{[^{}]*\}|%[a-z]")
WORD = re.compile(r"[A-Za-z]{2}")
KEYWORDS = {"help": "help", "short_help": "help", "epilog": "help", "description": "description"}

Found = tuple[int, str, str]
"""A text found in a module: its line, kind, and content."""


@dataclass(frozen=True, order=True)
class Text:
    path: str
    line: int
    kind: str
    text: str


def collect(root: Path = ROOT) -> list[Text]:
    """Return all texts below `root`, in order. Leaves out messages that have no word besides their placeholders, and
    the errors and log messages of tests: these are inputs of the code under test, not texts for readers."""
    paths = [path for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    sources = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    errors = {name for source in sources.values() for name in raised_classes(source)}
    texts = (text for path, source in sources.items() for text in texts_of(path, source, errors))
    return sorted(text for text in texts if not is_input(text) and WORD.search(PLACEHOLDER.sub("", text.text)))


def is_input(text: Text) -> bool:
    return text.path.startswith("tests/") and text.kind in ("error", "log")


def draw(texts: list[Text], seed: str, count: int) -> list[Text]:
    return random.Random(seed).sample(texts, min(count, len(texts)))


def raised_classes(source: str) -> set[str]:
    """Return the names of the exception classes that `source` raises with arguments."""
    raised = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    names = {ast.unparse(error.func).rpartition(".")[2] for error in raised if isinstance(error, ast.Call)}
    return {name for name in names if name.lstrip("_")[:1].isupper()}


def texts_of(path: str, source: str, errors: Collection[str]) -> set[Text]:
    """Return the texts of one module. `errors` contains the names of classes whose arguments are error messages."""
    found = [*comments(source), *(each for node in ast.walk(ast.parse(source)) for each in texts_at(node, errors))]
    return {Text(path, line, kind, " ".join(text.split())) for line, kind, text in found if text.strip()}


def comments(source: str) -> Iterator[Found]:
    """Yield each comment without its directives. Consecutive lines that hold only a comment are one comment."""
    # for each comment: its first line, its last line (0 if code precedes the comment), and its text
    found: list[tuple[int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], DIRECTIVE.sub("", token.string).strip("# ")
        last = line if token.line.lstrip().startswith("#") else 0
        if last and found and found[-1][1] == line - 1:
            first, _, before = found.pop()
            found.append((first, last, f"{before} {text}"))
        else:
            found.append((line, last, text))
    return ((line, "comment", text) for line, _, text in found)


def texts_at(node: ast.AST, errors: Collection[str]) -> Iterator[Found]:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            yield node.lineno, "docstring", text
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
            yield node.lineno, "test name", name.removeprefix("test_").replace("_", " ")
        case ast.Raise(exc=ast.Call(args=arguments)):
            yield from strings("error", *arguments)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            yield from strings(kind_of(ast.unparse(function), errors), *arguments)
            for keyword in keywords:
                yield from strings(KEYWORDS.get(keyword.arg or "", ""), keyword.value)


def kind_of(function: str, errors: Collection[str]) -> str:
    """Return the kind of the texts in the arguments of `function`, or "" if these texts are not collected."""
    if LOG_CALL.fullmatch(function):
        return "log"
    name = function.rpartition(".")[2]
    return "error" if name in errors else "description" if name == "setting" else ""


def strings(kind: str, *nodes: ast.expr) -> Iterator[Found]:
    """Yield the string literals in `nodes`, as texts of this kind. Yields nothing if `kind` is "". The text of an
    f-string contains its expressions."""
    for node in nodes if kind else ():
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, kind, text
            case ast.JoinedStr():
                yield node.lineno, kind, ast.unparse(node)[2:-1]
            case ast.BinOp(left=one, right=other) | ast.IfExp(body=one, orelse=other):
                yield from strings(kind, one, other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", help="seed of the random choice, any text (default: the current commit)")
    parser.add_argument("--count", type=int, default=200, help="number of texts to print (default: 200)")
    options = parser.parse_args()
    commit = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    seed = options.seed or subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    for number, each in enumerate(draw(collect(), seed, options.count), 1):
        # a text in the tests contains half of a surrogate pair, and Python cannot print that
        text = each.text.encode(errors="backslashreplace").decode()
        print(f"{number}. {each.path}:{each.line} [{each.kind}] {text}")


if __name__ == "__main__":
    main()
