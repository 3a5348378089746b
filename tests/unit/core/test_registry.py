"""Operators and plugins are found wherever they may live; each case in a fresh process, because paths are of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MINE = '''"""What I wrote."""
from anchovies.sdk import Connection, Downloader

class Shop(Connection):
    uri: str = ""

class Mine(Downloader):
    pass
'''
PLUGIN = """
raise_if_imported = 1 / 0
PLUGIN = {
    "name": "other", "summary": "Another: distribution's", "extra": "", "requires": ["no_such_driver"],
    "operators": {"Other": "downloads others"}, "connections": ["pkg.mod:Cnxn"],
    "commands": {"go": "anchovies.plugins.other:go_command"},
}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with `./anchovies/plugins/mine.py` and `./my_api.py`."""
    (tmp_path / "anchovies/plugins").mkdir(parents=True)
    (tmp_path / "anchovies/plugins/mine.py").write_text(MINE)
    (tmp_path / "my_api.py").write_text(MINE.replace("Mine", "MyDownloader"))
    return tmp_path


def python(code: str, folder: Path, **env: str) -> str:
    """What `code` prints, in a fresh process in `folder`. Errors of ours are printed as `message | hint`."""
    head = "from anchovies.core.registry import *\nfrom anchovies.core.errors import ConfigError\n"
    head += "def op(t):\n  try: c = resolve_operator(t); print(c.__module__, c.__name__)\n"
    head += "  except ConfigError as e: print(e, '|', e.hint)\n"
    full = {**os.environ, "PYTHONSAFEPATH": "1", **env}
    done = subprocess.run([sys.executable, "-c", head + code], cwd=folder, env=full, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mine.Mine", "anchovies.plugins.mine Mine"),
        ("my_api:MyDownloader", "my_api MyDownloader"),
        ("my_api.MyDownloader", "my_api MyDownloader"),
        ("./my_api.py:MyDownloader", "my_api MyDownloader"),
        ("./my_api.py", "my_api MyDownloader"),
    ],
)
def test_every_form(here: Path, text: str, found: str) -> None:
    assert python(f"op({text!r})", here) == found


@pytest.mark.parametrize("before", [True, False], ids=["folder first", "plugins imported first"])
def test_the_own_folder_adds_plugins_in_either_order(here: Path, before: bool) -> None:
    steps = ["add_current_folder()", "import anchovies.plugins; list_plugins()"]
    code = (
        "\n".join(steps if before else steps[::-1])
        + "\nimport anchovies.plugins.mine as m; print(m.Mine.__name__, 'mine' in [p.name for p in list_plugins()])"
    )
    assert python(code, here) == "Mine True"


def test_our_own_plugins_stay_beside_it(here: Path) -> None:
    assert (
        python("add_current_folder(); print({'files', 'sftp', 'sql', 'mine'} <= {p.name for p in list_plugins()})", here)
        == "True"
    )


def test_a_second_distribution(tmp_path: Path) -> None:
    (tmp_path / "site/anchovies/plugins").mkdir(parents=True)
    (tmp_path / "site/anchovies/plugins/other.py").write_text(PLUGIN)
    code = "p = plugin('other'); print(p.summary, p.missing, dict(p.operators), dict(p.connections), dict(p.commands))\nop('other.Other')"
    said = "Another: distribution's ('no_such_driver',) {'Other': 'anchovies.plugins.other:Other'} {'Cnxn': 'pkg.mod:Cnxn'}"
    said += " {'go': 'anchovies.plugins.other:go_command'}"
    assert python(code, tmp_path, PYTHONPATH=str(tmp_path / "site")).splitlines() == [
        said,
        "the plugin 'other' needs 'no_such_driver', which is not installed | pip install no_such_driver",
    ]


def test_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "far_away.py").write_text(MINE)
    info = tmp_path / "far_away-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anchovies.plugins]\nfar = far_away\n")
    code = "op('far.Mine'); print('far' in [p.name for p in list_plugins()])"
    assert python(code, tmp_path, PYTHONPATH=str(tmp_path)).splitlines() == ["far_away Mine", "True"]


def test_a_folder_never_shadows_a_library(here: Path) -> None:
    (here / "json.py").write_text("raise SystemExit('shadowed')")
    assert python("add_current_folder(); import json, sys; print(hasattr(json, 'dumps'), sys.path[-1])", here) == f"True {here}"


def test_a_plugin_without_words_is_read_by_its_classes(here: Path) -> None:
    code = "add_current_folder(); p = plugin('mine'); print(p.summary, list(p.operators), list(p.connections))"
    assert python(code, here) == "What I wrote. ['Mine'] ['Shop']"


def test_a_broken_plugin_breaks_no_other(here: Path) -> None:
    (here / "anchovies/plugins/bad.py").write_text("def (")
    code = "add_current_folder(); print([p.name for p in list_plugins() if p.broken], 'mine' in [p.name for p in list_plugins()])"
    assert python(code, here) == "['bad'] True"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mine.Mnie", "there is no 'Mnie' in 'mine' (mine.Mnie) | did you mean 'Mine'?"),
        ("mne.Mine", "there is no operator 'mne.Mine' | did you mean 'mine.Mine'?"),
        ("sftp.CsvDownlaoder", "there is no 'CsvDownlaoder' in 'sftp' (sftp.CsvDownlaoder) | did you mean 'CsvDownloader'?"),
        ("mine", "'mine' is a plugin, not an operator | name one of its operators: mine.Mine"),
        ("my_api:Mydownloader", "there is no 'Mydownloader' in 'my_api' (my_api:Mydownloader) | did you mean 'MyDownloader'?"),
        ("no_such:X", "there is no module 'no_such' for the operator 'no_such:X' | an operator is written"),
        ("./no.py:X", "there is no file 'no.py' for the operator './no.py:X' | an operator is written"),
        ("..x:Y", "'..x:Y' is not the name of an operator | an operator is written"),
        ("nope", "there is no operator 'nope' | an operator is written"),
        ("os:getcwd", "'os:getcwd' is not an operator | an operator is a subclass of"),
        ("my_api:Shop", "'my_api:Shop' is not an operator | an operator is a subclass of"),
    ],
)
def test_mistakes(here: Path, text: str, said: str) -> None:
    assert python(f"op({text!r})", here).startswith(said)


def test_a_missing_driver_gives_the_line_that_installs_it(here: Path) -> None:
    (here / "needy.py").write_text("import no_such_driver.sub\n")
    assert (
        python("op('needy:X')", here) == "'needy:X' needs 'no_such_driver', which is not installed | pip install no_such_driver"
    )


def test_listing_imports_no_plugin(here: Path) -> None:
    code = (
        "import sys; add_current_folder(); list_plugins(); print([m for m in sys.modules if m.startswith('anchovies.plugins.')])"
    )
    assert python(code, here) == "[]"


def test_an_operator_and_the_parts_beside_it_are_of_one_module(here: Path) -> None:
    (here / "both_of.py").write_text(
        "from anchovies.sdk import Downloader, Session\nclass Mine(Session): ...\nclass Op(Downloader):\n    session = Mine\n"
    )
    code = (
        "from anchovies.core.registry import resolve_class, resolve_operator\n"
        "op = resolve_operator('./both_of.py:Op')\n"
        "print([resolve_class(x, 'session class', {}) is op.session for x in ('both_of.py:Mine', 'both_of:Mine')])"
    )
    assert python(code, here) == "[True, True]"
