"""The examples as a whole. That each runs, and prints what its page says, is seen by `test_snippets`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = sorted(p for p in EXAMPLES.iterdir() if p.is_dir() and p.name != "__pycache__")
each_example = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)


def test_there_are_enough_and_all_are_listed() -> None:
    assert len(FOLDERS) >= 8
    listed = re.findall(r"^\| \[\w+\]\((\w+)\) \|", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [f.name for f in FOLDERS]


@each_example
def test_it_can_be_read_at_once(folder: Path) -> None:
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 40, f"{path.name} is longer than an example should be"
        assert text.startswith('"""'), f"{path.name} does not say what it shows"


@each_example
def test_it_says_how_to_run_it_and_what_comes_of_it(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    commands = "$ anchovy " in page
    assert commands or "<!-- output -->" in page
    assert all(f"({p.name})" in page for p in folder.glob("*.py"))
