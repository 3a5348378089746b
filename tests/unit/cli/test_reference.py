"""The reference pages lie in docs/reference as the generator writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchovies.cli.reference import main, pages

DOCS = Path(__file__).resolve().parents[3] / "docs/reference"


@pytest.mark.parametrize("name", ["settings.md", "cli.md", "plugins.md"])
def test_the_page_is_fresh(name: str, tmp_path: Path) -> None:
    main(str(tmp_path))
    assert (DOCS / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), "stale: run `make reference`"


def test_no_page_names_this_machine() -> None:
    assert not [name for name, text in pages().items() if str(Path.home()) in text or str(DOCS) in text]
