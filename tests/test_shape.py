"""Tests of the imports between the modules of the package. Imports go in one direction only, as the table MAY_IMPORT
allows."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "serverpy"

EVERYWHERE = "errors extras options tasks single_flight ranges validators containers languages extraction.values"
"""The leaf modules, which any module may import: errors, tasks, single flight, and modules with the values that parts
of the package pass to each other."""

LOW = "access.grant memory net"
CONTRACTS = f"plan default_choice body extraction {LOW}"
UPPER = f"parent access streaming media settings metrics locks directories running info {CONTRACTS}"

MAY_IMPORT: dict[str, str] = {
    "errors": "",
    "extras": "",
    "tasks": "",
    "single_flight": "",
    "ranges": "",
    "validators": "",
    "preconditions": "",
    "containers": "",
    "languages": "",
    "aes": "",
    "segment_kinds": "",
    "logs": "",
    "environment": "",
    "parent": "",
    "processes": "",
    "extraction.values": "",
    "extraction.choice": "",
    "extraction.error_text": "",
    "extraction.sites": "",
    "extraction.selectors": "",
    "net.ports": "",
    "locks": "",
    "directories": "locks",
    "memory.room": "",
    "memory.profile": "",
    "memory.heap": "",
    "metrics": "",
    "access": "settings.types extraction.sites locks directories",
    "access.clients": "",
    "access.grant": "access.key",
    "options": "net.ports",
    "settings": "memory.profile net.ports extraction.sites",
    "memory": "",
    "net": "net memory.room",
    "extraction": "access.grant environment directories processes net memory",
    "default_choice": "",
    "plan": "default_choice extraction.choice",
    "running": "access.key plan",
    "slow_clients": "running",
    "fallback": "plan",
    "info": "default_choice plan",
    "body": "access.grant default_choice plan memory",
    "ytdlp": "aes segment_kinds logs parent net memory.heap extraction.messages extraction.sites extraction.selectors "
    "extraction.error_text",
    "media": CONTRACTS,
    "media.mp4.boxes": "",
    "media.mp4.durations": "media.mp4.boxes",
    "streaming": f"aes segment_kinds environment directories processes media.mp4.durations {CONTRACTS}",
    "streaming.segments.merge": f"media {CONTRACTS}",
    "streaming.segments.known_lengths": f"media {CONTRACTS}",
    "streaming.segments.side": f"segment_kinds media.mp4 {CONTRACTS}",
    "delivery": f"running fallback {CONTRACTS}",
    "engine": f"delivery {UPPER}",
    "server": f"engine logs slow_clients {UPPER}",
    "api": f"server delivery preconditions {UPPER}",
    "app": f"api server engine delivery logs {UPPER}",
    "cli": f"app api server engine delivery logs {UPPER}",
    "cli.sample": "sample",
    "cli.bench": "bench",
    "__main__": "cli",
    "sample": "sample",
    "bench": "settings sample",
    "bench.measure.callbacks": "cli",
}
"""Maps a module or package to the modules and packages that it may import, in addition to those in EVERYWHERE and its
own package. For a module, only the longest matching key applies."""

YTDLP_IMPORTERS = ("ytdlp", "sample.plugins", "bench.measure.seed_shape")
"""The only modules that import yt-dlp. The last of them is a program that the benchmark measures in a separate
process."""


@functools.cache
def modules() -> Sequence[tuple[str, ast.Module]]:
    """Return every module of the package, with its name relative to `serverpy`, and its syntax tree."""
    return [(_name_of(path), ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def _name_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").rstrip(".")


@functools.cache
def imports(tree: ast.AST) -> frozenset[str]:
    """Return the full names of all modules that `tree` imports, even inside functions and under TYPE_CHECKING."""
    return frozenset(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (_module(node.module, alias.name) for alias in node.names)


def _module(parent: str, name: str) -> str:
    """Return the module that `from parent import name` imports: `parent.name` if the project has a module of this name,
    and otherwise `parent`."""
    path = ROOT.joinpath(*parent.split("."), name)
    return f"{parent}.{name}" if path.is_dir() or path.with_suffix(".py").exists() else parent


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def key_of(name: str) -> str | None:
    """Return the key of the row in MAY_IMPORT that applies to the module `name`, or None if no row does."""
    return max((key for key in MAY_IMPORT if inside(name, key)), key=len, default=None)


def forbidden_imports(name: str, tree: ast.Module) -> list[str]:
    """Return the imports of the module `name` that MAY_IMPORT does not allow."""
    key = key_of(name)
    assert key is not None, f"serverpy.{name} has no row in MAY_IMPORT"
    own = name.partition(".")[0]
    allowed = f"{own} {EVERYWHERE} {MAY_IMPORT[key]}".split()
    if "." in key and not MAY_IMPORT[key]:
        allowed = EVERYWHERE.split()  # a leaf module in a package may not import the other modules of the package
    ours = [found.removeprefix("serverpy.") for found in imports(tree) if found.startswith("serverpy.")]
    return sorted({found for found in ours if not any(inside(found, package) for package in allowed)})


MODULES = [(name, tree) for name, tree in modules() if name and not inside(name, "sample.plugins")]


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_a_module_imports_only_modules_that_the_table_may_import_allows(name: str, tree: ast.Module) -> None:
    forbidden = forbidden_imports(name, tree)
    assert not forbidden, f"serverpy.{name} may not import {', '.join(forbidden)}"


@pytest.mark.parametrize("leaf", [name for name, allowed in MAY_IMPORT.items() if not allowed])
def test_a_leaf_module_imports_only_leaf_modules(leaf: str) -> None:
    """If a leaf module imported a module of a higher part of the package, every module that imports the leaf would
    import that part too."""
    for name, tree in modules():
        if name and key_of(name) == leaf:
            found = {found.removeprefix("serverpy.") for found in imports(tree) if found.startswith("serverpy.")}
            assert all(any(inside(one, package) for package in EVERYWHERE.split()) for one in found)


def test_only_the_modules_that_the_constant_ytdlp_importers_lists_import_ytdlp() -> None:
    loaders = {name for name, tree in modules() if any(inside(found, "yt_dlp") for found in imports(tree))}
    assert all(any(inside(name, allowed) for allowed in YTDLP_IMPORTERS) for name in loaders), loaders


def test_the_check_of_imports_finds_a_forbidden_import() -> None:
    source = "def late():\n    from serverpy.api import problems\n    import serverpy.media.mp4\n    import av\n"
    assert forbidden_imports("media.job", ast.parse(source)) == ["api.problems"]
    assert forbidden_imports("streaming.methods.relay", ast.parse("import serverpy.containers")) == []
    assert forbidden_imports("streaming.methods.relay", ast.parse("import serverpy.media.mp4")) == ["media.mp4"]
    assert forbidden_imports("memory.profile", ast.parse("from serverpy.memory import budget")) == ["memory.budget"]


def test_the_measuring_and_the_reporting_modules_of_the_benchmark_do_not_import_each_other() -> None:
    """A report needs only the results file, so that the report can be written on another machine and at a later
    time."""
    for one, other in (("report", "measure"), ("measure", "report")):
        for name, tree in MODULES:
            if inside(name, f"bench.{one}"):
                assert not any(inside(found, f"serverpy.bench.{other}") for found in imports(tree)), name


def test_the_package_has_no_import_cycles() -> None:
    """The check includes imports inside functions and under TYPE_CHECKING."""
    graph = {name: {found.removeprefix("serverpy.") for found in imports(tree)} for name, tree in MODULES}
    order = TopologicalSorter({name: found & graph.keys() - {name} for name, found in graph.items()})
    order.prepare()  # an import cycle raises CycleError, which names the modules


def test_every_row_of_the_table_may_import_belongs_to_a_module() -> None:
    assert {key_of(name) for name, _ in MODULES} == MAY_IMPORT.keys()
