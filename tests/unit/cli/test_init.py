"""`anchovy init`: what it writes is valid, runs, and is never written over anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anchovies.cli import starter
from anchovies.core.config import load_config
from anchovies.core.errors import ConfigError
from anchovies.testing.servers import asyncssh_server


class Shell:
    """A folder, and a process of its own for each command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("ACHVY", "PYTEST", "PYTHON", "COV"))}
        self.env["ACHVY_HOME"] = str(folder / "home")

    def run(self, *args: str, **env: str) -> tuple[int, str]:
        full = [sys.executable, "-m", *args]
        done = subprocess.run(
            full, cwd=self.folder, env={**self.env, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90
        )  # fmt: skip
        assert "Traceback" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    def anchovy(self, *args: str, **env: str) -> tuple[int, str]:
        return self.run("anchovies.cli.main", *args, **env)

    def files(self) -> set[str]:
        return {p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_project_runs_as_it_was_written(shell: Shell) -> None:
    code, said = shell.anchovy("init", "sales")
    assert code == 0 and shell.files() == {"config.yaml"}
    assert said.splitlines()[0] == "wrote config.yaml"
    assert [line.strip() for line in said.splitlines()[3:]] == [
        "export ACHVY_CNXN__PATH=…", "anchovy plan", "anchovy preview", "anchovy start",
    ]  # fmt: skip
    (shell.folder / "inbox").mkdir()
    (shell.folder / "inbox/a.csv").write_text("id,name\n1,herring\n2,salt\n")
    code, said = shell.anchovy("start", ACHVY_CNXN__PATH="inbox")
    assert code == 0 and "kept 2" in said, said


@pytest.mark.parametrize("operator", ["files.CsvDownloader", "sftp.CsvDownloader", "sql.Uploader"])
def test_every_config_is_valid_and_names_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator: str) -> None:
    monkeypatch.chdir(tmp_path)
    made = starter.project("my-sales.1", operator)
    Path("config.yaml").write_text(made.files["config.yaml"])
    config = load_config({}, {})
    assert config.settings["id"] == "my-sales.1" and config.settings["operator_cls"] == operator
    assert made.required and all(variable in made.files["config.yaml"] for variable in made.required)
    assert list(config.tbls) == ([] if made.follows else ["my_sales_1"])


def test_a_plugin_runs_and_its_test_is_green(shell: Shell) -> None:
    code, said = shell.anchovy("init", "--plugin", "my_shop")
    assert code == 0 and shell.files() == {"anchovies/plugins/my_shop.py", "tests/test_my_shop.py"}
    assert "  anchovy start -op my_shop.MyShopDownloader --id my_shop" in said
    code, said = shell.run(
        "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:randomly", "tests", ACHVY_CNXN__STRANGE="1"
    )
    assert code == 0 and " passed" in said, said
    code, said = shell.anchovy("plugin", "my_shop")
    assert code == 0 and "operator my_shop.MyShopDownloader" in said
    code, said = shell.anchovy("start", "-op", "my_shop.MyShopDownloader", "--id", "my_shop")
    assert code == 0 and "kept 250" in said, said


def test_the_test_of_a_plugin_notices_what_is_broken(shell: Shell) -> None:
    shell.anchovy("init", "--plugin", "my_shop")
    path = shell.folder / "anchovies/plugins/my_shop.py"
    good = "            yield page\n            last.set(page[-1]"
    assert good in path.read_text()
    path.write_text(
        path.read_text().replace(good, "            last.set(page[-1]").replace("before it\n", "it\n            yield page\n")
    )
    code, said = shell.run("pytest", "-p", "no:cacheprovider", "-x", "-k", "yield", "--anchovy-chaos", "tests")
    assert code == 1 and "rows missing" in said, said


def test_nothing_is_ever_overwritten(shell: Shell) -> None:
    (shell.folder / "tests").mkdir()
    (shell.folder / "tests/test_shop.py").write_text("mine")
    (shell.folder / "config.yaml").symlink_to("nowhere")
    for args, path in ((["--plugin", "shop"], "tests/test_shop.py"), (["shop"], "config.yaml")):
        code, said = shell.anchovy("init", *args)
        assert code == 2 and f"nothing was written, because this is there already: {path}" in said
    assert shell.files() == {"tests/test_shop.py"}
    assert (shell.folder / "tests/test_shop.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Sales", "-x", "a/b", "..", "ü", "a b", "a" * 101, "a\n"])
def test_bad_names_of_projects(name: str) -> None:
    with pytest.raises(ConfigError, match="the name"):
        starter.check_project(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My", "not that of a module"),
        ("1a", "not that of a module"),
        ("_a", "not that of a module"),
        ("a-b", "not that of a module"),
        ("a.b", "not that of a module"),
        ("class", "a word of Python"),
        ("kafka", "kept for a plugin of anchovies"),
        ("sql", "there is a plugin 'sql' already"),
    ],
)
def test_bad_names_of_plugins(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        starter.check_plugin(name)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "gopher://me:secret-word@x", "a"], "no plugin knows how to look at gopher://"),
        (["--from", "nowhere", "a"], "there is no folder"),
        (["--from", ".", "a"], "nothing at . looks like a table"),
        (["--from", "http://me:secret-word@x", "-op", "sftp.CsvDownloader", "a"], "it does not begin with sftp://"),
        (["--plugin", "a", "-op", "sql.Uploader"], "--plugin writes an operator of its own"),
        (["a", "-op", "sftp.Nope"], "there is no 'Nope' in 'sftp'"),
        (["A"], "is not made of lower-case letters"),
    ],
)
def test_mistakes(shell: Shell, args: list[str], said: str) -> None:
    code, out = shell.anchovy("init", *args)
    assert code == 2 and said in out and "secret-word" not in out
    assert not shell.files()


def test_a_look_at_a_folder_guesses_its_tables(shell: Shell) -> None:
    inbox = shell.folder / "inbox"
    (inbox / "orders").mkdir(parents=True)
    for day in (1, 2):
        (inbox / f"orders/2026-11-0{day}.csv").write_text(f"id,total,note\n{day}1,2.50,\n{day}2,3,x\n")
    (inbox / "customers.tsv").write_text("code\tname\n007\tx\n008\ty\n")
    code, said = shell.anchovy("init", "sales", "--from", "inbox")
    assert code == 0, said
    assert "  orders: 3 columns, perhaps unique by id" in said and "  export ACHVY_CNXN__URI=inbox" in said
    text = (shell.folder / "config.yaml").read_text()
    for line in (
        'path: "orders/*.csv"',
        "# columns: {code: str, name: str}",
        '# columns: {id: int, total: "decimal(3,2)", note: str}',
    ):
        assert line in text
    code, said = shell.anchovy("start", ACHVY_CNXN__URI="inbox")
    assert code == 0 and "end ok: 6 rows" in said, said


def test_a_look_at_a_server_shows_no_password(shell: Shell) -> None:
    outbox = shell.folder / "outbox"
    outbox.mkdir()
    (outbox / "fish.csv").write_text("id\n1\n2\n")
    with asyncssh_server(outbox, "user", "secret-word") as server:
        env = {"ACHVY_CNXN__HOST_KEY": server.fingerprint}
        code, said = shell.anchovy("init", "fish", "--from", server.uri("secret-word", "/"), **env)
    assert code == 0 and "  export ACHVY_CNXN__URI=sftp://user:…@127.0.0.1" in said, said
    text = (shell.folder / "config.yaml").read_text()
    assert "operator_cls: sftp.CsvDownloader" in text and 'fish.csv"' in text
    assert "secret-word" not in said + text
