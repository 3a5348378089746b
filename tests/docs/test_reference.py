"""The generated pages of docs/reference are what the code says today."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/reference"


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(folder.glob("*.md"))}


def test_generated_pages_are_fresh(tmp_path: Path) -> None:
    """`make reference` in an empty folder writes what is committed."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(PAGES, tmp_path / "docs/reference")
    for page in (tmp_path / "docs/reference").glob("*.md"):
        page.unlink()
    args = [sys.executable, "-m", "anchovies.cli.reference"]
    done = subprocess.run(args, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert texts(tmp_path / "docs/reference") == texts(PAGES), "a generated page is stale: make reference"
    assert texts(PAGES), "there are no generated pages"
