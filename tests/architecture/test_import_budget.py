"""cron starts us each minute: what a command does not need is not loaded. And: what the public face is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anchovies
from anchovies import sdk

HEAVY = {"pyarrow", "rich", "asyncssh", "duckdb", "psycopg", "pgpq", "numpy", "pandas", "sqlalchemy", "cryptography", "obstore"}
HEAVY |= {"http"}  # of a service with a port alone

FACE = """
    AlreadyRunning AnchovyError AnchovyExecutionTimeout Batch Checkpoint ColType Column ConfigError Connection
    ConnectionMemo Context CorruptDatastore Counts Downloader FatalError Ledger Load LoadFile Operator Position
    PositionMoved RetryableError RowError Secret Session SessionResult SortKey SourceError Stopped Stream
    TableResult Target Task Tbl Uploader Worker attr batch cached context on_ack on_task parse_type session sink source
"""


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after `code`."""
    report = "\nimport sys as _s; print('loaded:', ' '.join(sorted({m.partition('.')[0] for m in _s.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].removeprefix("loaded: ").split())


def test_the_sdk_loads_nothing_heavy() -> None:
    assert not loaded_by("import anchovies.sdk") & HEAVY


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["start", "--help"], ["checkpoint", "--help"]], ids=" ".join)
def test_the_command_line_loads_nothing_heavy(args: list[str]) -> None:
    run = f"import sys; from anchovies.cli.main import main\nsys.argv = ['anchovy', *{args!r}]\n"
    assert not loaded_by(run + "try: main()\nexcept SystemExit as e: assert not e.code, e.code") & HEAVY


def test_the_pytest_plugin_loads_nothing_of_ours_in_everybodys_tests() -> None:
    code = "import pytest, sys; before = set(sys.modules); import anchovies.testing.pytest_plugin\n"
    code += "new = {m for m in set(sys.modules) - before}; assert new == {'anchovies', 'anchovies.testing',"
    code += " 'anchovies.testing.pytest_plugin', 'pkgutil'} & new, new"
    loaded_by(code)


def test_the_public_face() -> None:
    assert sorted(sdk.__all__) == sorted(FACE.split()), "the face changed: say so in CHANGELOG.md, then change this list"
    assert sorted(anchovies.__all__) == ["__version__", "run"]
    missing = [name for name in sdk.__all__ if not hasattr(sdk, name)]
    assert not missing


def test_the_public_face_is_documented() -> None:
    bare = [n for n in sdk.__all__ if isinstance(getattr(sdk, n), type) and not getattr(sdk, n).__doc__]
    assert not bare, f"no docstring: {bare}"


def test_the_package_runs_no_code_when_it_is_imported() -> None:
    """No network, no file, no thread: importing `anchovies` only defines."""
    tree = ast.parse(Path(anchovies.__file__ or "").read_text())
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign, ast.If, ast.Expr)
    assert all(isinstance(node, allowed) for node in tree.body)
