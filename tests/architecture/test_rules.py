"""The rules of the house that a reader can check by looking, checked by looking."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
FILES = sorted(SRC.rglob("*.py"))
OUR_CODE = [*FILES, *sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]
DRAWERS = {"utils", "util", "helpers", "helper", "misc", "common", "shared", "lib"}
LINES, FUNCTION, MEDIAN = 400, 60, 10

each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(where, lines without the docstring) of every function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            doc_lines = (doc.end_lineno or 0) - doc.lineno + 1 if doc else 0
            yield f"{path.name}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1 - doc_lines


def imported(node: ast.AST) -> list[str]:
    """Dotted names that an import statement brings in; relative ones are ours."""
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ("anchovies." if node.level else "") + (node.module or "")
        return [base, *(f"{base}.{a.name}" for a in node.names)]
    return []


def imports(path: Path) -> set[str]:
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


def calls(path: Path) -> set[str]:
    """Every dotted name that the file reads, as text: `time.time`, `os.environ`."""
    return {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("path", OUR_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES, f"split {path.name}: no file has more than {LINES} lines"


@pytest.mark.parametrize("path", OUR_CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_functions_are_short(path: Path) -> None:
    long = [f"{where}: {lines} lines" for where, lines in functions(path) if lines > FUNCTION]
    assert not long, f"no function has more than {FUNCTION} lines: {long}"


def test_functions_are_short_on_the_whole(notes: list[str]) -> None:
    lengths = [lines for path in FILES for _, lines in functions(path)]
    median = statistics.median(lengths)
    notes.append(f"{len(lengths)} functions in {len(FILES)} files, median {median:g} lines, longest {max(lengths)}")
    assert median <= MEDIAN, f"the median function has {median} lines, {MEDIAN} are allowed"


@each_file
def test_our_own_code_is_imported_at_the_top(path: Path) -> None:
    inside = [
        f"{path.name}:{node.lineno} imports {name}"
        for fn in ast.walk(tree(path))
        if isinstance(fn, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(fn)
        for name in imported(node)[:1]
        if name.split(".")[0] == "anchovies"
    ]
    assert not inside, f"imports go down, at the top of the file: {inside}"


@each_file
def test_nothing_that_can_run_code_is_read_back(path: Path) -> None:
    bad = {n for n in imports(path) if n.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}}
    assert not bad, f"{path.name} imports {bad}: what lies in a datastore is never code"


@each_file
def test_nothing_is_left_for_later(path: Path) -> None:
    text = path.read_text()
    assert not [w for w in ("TODO", "FIXME", "XXX", "NotImplementedError", "HACK") if w in text]


def test_there_are_no_drawers() -> None:
    parts = {part.removesuffix(".py") for path in FILES for part in path.relative_to(SRC).parts}
    assert not parts & DRAWERS, f"a name says what is in it: {parts & DRAWERS}"


@each_file
def test_one_owner_of_time(path: Path) -> None:
    if path.relative_to(SRC).as_posix() != "anchovies/core/clock.py":
        bad = calls(path) & {
            "time.time",
            "time.time_ns",
            "datetime.now",
            "datetime.utcnow",
            "datetime.datetime.now",
            "date.today",
        }
        assert not bad, f"only core/clock.py tells the time: {bad}"


@each_file
def test_one_owner_of_randomness(path: Path) -> None:
    inside = path.relative_to(SRC).as_posix()
    if inside != "anchovies/core/ids.py" and not inside.startswith("anchovies/testing/"):  # simulators seed their own
        bad = imports(path) & {"random", "uuid.uuid4", "uuid.uuid1", "secrets"} | calls(path) & {
            "uuid.uuid4",
            "uuid.uuid1",
            "os.urandom",
        }
        assert not bad, f"only core/ids.py makes ids: {bad}"


@each_file
def test_one_reader_of_the_environment(path: Path) -> None:
    inside = path.relative_to(SRC).as_posix()
    if inside == "anchovies/core/env.py" or inside.startswith(("anchovies/cli/", "anchovies/testing/")):
        return
    bad = calls(path) & {"os.environ", "os.getenv", "os.putenv"} | imports(path) & {"os.environ", "os.getenv"}
    assert not bad, f"only core/env.py (and the command line) reads the environment: {bad}"


@each_file
def test_plugins_import_the_public_face_only(path: Path) -> None:
    if path.relative_to(SRC).parts[:2] != ("anchovies", "plugins"):
        return
    ours = {n for n in imports(path) if n.split(".")[0] == "anchovies"}
    bad = {n for n in ours if not re.match(r"anchovies\.(sdk(\.\w+)*|plugins\.\w.*)$", n)}
    assert not bad, f"a plugin says `from anchovies.sdk import …`, as everybody's plugins do: {sorted(bad)}"


def test_plugins_is_a_namespace() -> None:
    assert not (SRC / "anchovies/plugins/__init__.py").exists(), "an __init__.py there would hide everybody else's plugins"


def test_no_file_names_this_machine() -> None:
    """Committed texts name neither a folder of somebody's machine nor an address that pip was told of."""
    texts = [
        p
        for p in (*ROOT.glob("*"), *(ROOT / "requirements").glob("*"), *(ROOT / ".ci").glob("*"))
        if p.is_file() and p.suffix != ".lock"
    ]
    bad = [
        p.name
        for p in texts
        if not p.name.startswith(".env")
        and any(w in p.read_text(errors="replace") for w in ("--index-url", "--find-links", "/home/", "/root/"))
    ]
    assert not bad
