"""`anchovy plugin` as it is typed: what is installed, what it takes, what is missing, what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SHOP = '''"""A shop's orders."""
{top}
from anchovies.sdk import Connection, ConnectionMemo, Downloader, Secret, attr, source

class ShopConnection(Connection):
    token: Secret = attr("how to get in")
    page_size: int = attr("orders a page", default=100, aliases=("limit",))
    dry: bool = False

class Orders(Downloader):
    """reads orders"""
    shop: ShopConnection
    clock = ConnectionMemo("clock", print)
    tbl_properties = {{"since": "the first day"}}

    @source("orders", "lines")
    def orders(self):
        yield {{}}
'''
SAYS = """
PLUGIN = {"summary": "Fish", "extra": "fish", "requires": ["no_such_driver"], "operators": {"Fish": "catches fish"},
          "connections": {"Sea": "the sea"}, "buffers": {"tin": "fish:Tin"}, "datastores": {"sea": "fish:open_sea"}}
"""


class Typed:
    """`anchovy plugin …` in a folder of its own, in a process of its own: plugins stay imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "anchovies/plugins").mkdir(parents=True)

    def plugin(self, name: str, text: str) -> None:
        (self.folder / f"anchovies/plugins/{name}.py").write_text(text)

    def __call__(self, *args: str, path: Path | None = None, command: Sequence[str] = ("plugin",)) -> tuple[int, str, str]:
        env = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
        code = "import sys; from anchovies.cli.main import main; main(sys.argv[1:])"
        full = [sys.executable, "-P", "-c", code, *command, *args]
        done = subprocess.run(full, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def json(self, *args: str, path: Path | None = None) -> Any:
        code, out, err = self(*args, "--json", path=path)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    return Typed(tmp_path)


def test_what_an_operator_and_a_connection_take(typed: Typed) -> None:
    typed.plugin("shop", SHOP.format(top=""))
    found = typed.json("shop")
    operator = found["operators"]["Orders"]
    assert (operator["tables"], operator["takes"]) == (["orders", "lines"], {"since": "the first day"})
    assert operator["connections"] == {"shop": "ShopConnection", "clock": "print"}
    token, size, dry = found["connections"]["ShopConnection"]["takes"].values()
    assert (token["type"], token["required"], token["default"]) == ("secret", True, None)
    assert (size["type"], size["required"], size["default"], size["aliases"]) == ("int", False, 100, ["limit"])
    assert (dry["type"], dry["variables"]) == ("bool", ["ACHVY_CNXN__SHOP__DRY"])
    _, out, _ = typed("shop")
    for said in ("operator shop.Orders  reads orders", "its connection 'shop'", "has the tables orders, lines", "tbls.*.since"):
        assert said in out
    line = next(x for x in out.splitlines() if "PAGE_SIZE" in x)
    assert line.split() == ["ACHVY_CNXN__SHOP__PAGE_SIZE", "int", "default", "100", "orders", "a", "page", "(or", "LIMIT)"]


def test_a_missing_driver_is_answered_with_the_line_that_installs_it(typed: Typed) -> None:
    typed.plugin("fish", SAYS + "import no_such_driver\n")
    code, out, _ = typed("fish")
    assert code == 0
    assert "It needs no_such_driver, which is not installed: pip install 'anchovies[fish]'" in out
    for said in ("operator fish.Fish  catches fish", "connection Sea  the sea", "datastore sea://…", "buffer fish.tin"):
        assert said in out
    assert typed.json("fish")["missing"] == ["no_such_driver"]
    listed = next(x for x in typed()[1].splitlines() if x.startswith("fish"))
    assert listed.endswith("pip install 'anchovies[fish]'") and "fish.Fish, sea://, buffer fish.tin" in listed


def test_what_lacks_a_driver_that_it_only_wants_later_is_shown_in_full(typed: Typed) -> None:
    typed.plugin("shop", SHOP.format(top="") + SAYS.replace('"Fish"', '"Orders"').replace('"Sea"', '"ShopConnection"'))
    _, out, _ = typed("shop")
    assert "which is not installed" in out and "ACHVY_CNXN__SHOP__TOKEN" in out


def test_a_plugin_without_words_says_what_it_lacks(typed: Typed) -> None:
    typed.plugin("shop", SHOP.format(top="import json, no_such_driver.sub\n"))
    assert "pip install no_such_driver" in next(x for x in typed()[1].splitlines() if x.startswith("shop"))
    assert "which is not installed: pip install no_such_driver" in typed("shop")[1]


def test_a_buffer_of_a_plugin_is_named_as_it_is_listed(typed: Typed) -> None:
    buffer = 'PLUGIN = {"buffers": {"tin": "anchovies.store.buffers.jsonl:JsonLinesBuffer"}}'
    typed.plugin("fish", buffer)
    typed.plugin("shop", SHOP.format(top="").replace("    shop: ShopConnection\n", "").replace("yield {}", "yield {'n': 1}"))
    assert "buffer fish.tin" in typed("fish")[1]
    code, _, err = typed(command=["start", "-op", "shop.Orders", "-i", "x", "--datastore", "d", "--data-buffer-cls", "fish.tin"])
    assert code == 0, err
    assert list(typed.folder.rglob("d/**/data/orders/**/*.jsonl.gz"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHOP.format(top="1 / 0"), "ZeroDivisionError: division by zero"),
        (SHOP.format(top="from json import nothing_of_that_name"), "ImportError: cannot import name 'nothing_of_that_name'"),
        ("def (", "invalid syntax"),
        ("PLUGIN = {'operators': name()}", "malformed node"),
    ],
)
def test_a_broken_plugin_is_named_and_hides_no_other(typed: Typed, text: str, said: str) -> None:
    typed.plugin("bad", text)
    code, out, err = typed("bad")
    assert (code, out) == (2, "")
    assert said in err and "bad.py" in err
    names = [p["name"] for p in typed.json()]
    assert {"bad", "files", "sql"} <= set(names)


def distribution(folder: Path, name: str, entry: str, *files: tuple[str, str]) -> Path:
    """An installed distribution: modules, and the metadata that pip leaves."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[anchovies.plugins]\n{entry}\n")
    for path, text in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_a_distribution_outside_of_the_namespace(typed: Typed, tmp_path: Path) -> None:
    site = distribution(
        tmp_path / "site", "acme_shop", "acme = acme_shop.anchovy", ("acme_shop/__init__.py", "1 / 0"),
        ("acme_shop/anchovy.py", SHOP.format(top="")),
    )  # fmt: skip
    listed = next(p for p in typed.json(path=site) if p["name"] == "acme")
    assert listed["operators"] == {"Orders": "acme_shop.anchovy:Orders"}, "the package around it was imported"
    assert "ZeroDivisionError" in typed("acme", path=site)[2]
    (site / "acme_shop/__init__.py").write_text("")
    assert "ACHVY_CNXN__SHOP__TOKEN" in typed("acme", path=site)[1]


def test_an_entry_point_that_leads_nowhere(typed: Typed, tmp_path: Path) -> None:
    site = distribution(tmp_path / "site", "acme", "acme = acme_shop.gone")
    assert "broken" in next(x for x in typed(path=site)[1].splitlines() if x.startswith("acme"))
    assert "names the module 'acme_shop.gone', and there is none" in typed("acme", path=site)[2]


def test_another_distributions_extra(typed: Typed) -> None:
    typed.plugin("fish", SAYS.replace('"fish"', '"acme-fish[net]"', 1))
    assert "pip install 'acme-fish[net]'" in typed("fish")[1]
