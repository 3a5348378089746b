"""The import contracts hold, and each of them can be broken: a contract that nothing breaks guards nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: (what is broken, file that is written to, an import that must not be there, words of the contract's name)
BREAKS = [
    ("a plugin looks into the engine", "plugins/rogue.py", "import anchovies.engine.events", "A plugin knows anchovies.sdk"),
    (
        "a plugin in a folder looks into the core",
        "plugins/rogue/deep.py",
        "from anchovies.core import clock",
        "A plugin knows anchovies.sdk",
    ),
    ("the engine imports a plugin", "engine/rogue.py", "import anchovies.plugins.rogue", "Nothing imports a plugin"),
    ("the command line imports a plugin", "cli/rogue.py", "from anchovies.plugins import rogue", "Nothing imports a plugin"),
    ("the store imports the sdk", "store/rogue.py", "import anchovies.sdk", "Imports go down only"),
    (
        "the core imports the engine, inside a function",
        "core/rogue.py",
        "def f():\n    import anchovies.engine.events",
        "Imports go down only",
    ),
    (
        "the sdk imports the engine, for types only",
        "sdk/rogue.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import anchovies.engine.events",
        "Imports go down only",
    ),
    ("testing imports the command line", "testing/rogue.py", "import anchovies.cli.rogue", "Imports go down only"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    env = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONSAFEPATH": "1"}
    args = [sys.executable, "-c", command, "--no-cache", "--config", ".importlinter"]
    return subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=100)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for layer in ("cli", "testing", "plugins"):  # something to import, wherever it does not matter what
        (tmp_path / "src/anchovies" / layer).mkdir(exist_ok=True)
        (tmp_path / "src/anchovies" / layer / "rogue.py").touch()
        if layer != "plugins":
            (tmp_path / "src/anchovies" / layer / "__init__.py").touch()
    return tmp_path


def test_the_contracts_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(("file", "line", "contract"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_a_contract_catches(copy: Path, file: str, line: str, contract: str) -> None:
    target = copy / "src/anchovies" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(line + "\n")
    done = lint(copy)
    assert done.returncode == 1, f"{line!r} in {file} broke nothing:\n{done.stdout}{done.stderr}"
    assert any(contract in row and row.rstrip().endswith("BROKEN") for row in done.stdout.splitlines()), done.stdout
