"""The secret in whatever came after the first commands: edits, replays, checks, upkeep, receipts, task logs, and databases that say
their own address. Everything that is printed or lies in the folder is searched by the fixture `anchovy`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

NUMBERS = """
from anchovies.sdk import Connection, Downloader, Secret, context, source

class Api(Connection):
    token: Secret

class Numbers(Downloader):
    api: Api

    @source("numbers")
    def numbers(self, **kwds):
        last, token = context().checkpoint("last"), self.api.token.reveal()
        context().receipt(f"https://h/?key={token}", rows=3, first=token)
        context().progress(warning=f"asked with {token}")
        yield from ({"n": n} for n in range(last.get(0) + 1, last.get(0) + 4))
        last.set(last.get(0) + 3)
"""
#: A driver that repeats its whole URL, and the password in it as it was typed and as it was meant.
DRIVER = '''
from urllib.parse import unquote
from anchovies.plugins.sql import connection, uploader

def connect(self):
    url = self.url.reveal()
    raise RuntimeError(f"connection to {url} failed: password {unquote(url)!r} refused")

connection.DbConnection._connect = connect

class Talks(uploader.Uploader):
    """Its database cannot be reached."""
'''


@pytest.fixture
def shop(anchovy: Any, secret: str) -> Any:
    """Two commits of an anchovy whose source shows its token wherever it can."""
    (anchovy.folder / "numbers_.py").write_text(NUMBERS)
    anchovy.env = {"ACHVY_CNXN__API__TOKEN": secret, "ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite"}
    for _ in range(2):
        anchovy.ok("start", "-op", "./numbers_.py:Numbers", "-i", "shop", "--log-level", "debug")
    return anchovy


def test_edits_upkeep_and_checks(shop: Any, secret: str) -> None:
    shop.ok("start", "-op", "sql.Uploader", "-i", "wh", "-U", "shop")
    for args in (
        ("checkpoint", "set", "last", "5", "-i", "shop", "--why", f"the token {secret} was changed"),
        ("checkpoint", "history", "-i", "shop"),
        ("checkpoint", "rewind", "--to", "1", "-i", "shop", "--rows-again", "--why", f"{secret} again"),
        ("checkpoint", "delete", "last", "-i", "shop", "--why", f"{secret} again"),
        ("checkpoint", "delete", f"no {secret}", "-i", "shop"),
        ("verify", "--all", "--deep"),
        ("verify", "-i", "wh", "-op", "sql.Uploader", "-U", "shop"),
        ("replay", "-U", "shop", "--into", "sqlite:///copy.sqlite"),
        ("replay", "-U", "shop", "--as-of", "1", "--into", "sqlite:///then.sqlite", "--json"),
        ("replay", "-U", "shop", "--into", secret),
        ("maintain", "-i", "shop", "--retain", "0s", "--deep"),
        ("maintain", "-i", "shop", "--forget-consumer", secret),
        ("maintain", "-i", "shop", "--forget-target", secret),
        ("maintain", "-i", "shop", "--reset", f"the token {secret} was changed"),
        ("chaos", "--seed", "1", "--quiet"),
    ):
        done = shop(*args)
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("where", ["ACHVY_CNXN__DB__URL", "--into"])
def test_a_driver_that_repeats_its_url(shop: Any, secret: str, where: str) -> None:
    (shop.folder / "talks.py").write_text(DRIVER)
    url = f"postgresql://me:{quote(secret, safe='')}@127.0.0.1:1/db"
    env = {"ACHVY_CNXN__DB__URL": url} if where.startswith("ACHVY") else {}
    for command in ("replay", "start", "verify", "plan"):
        into = ("--into", url, "-i", "wh") if where == "--into" else ("-i", "wh")
        if where == "--into" and command != "replay":
            continue
        done = (
            shop(command, "-op", "./talks.py:Talks", "-U", "shop", *into, "-t", "20", env=env)
            if command in ("replay", "start")
            else shop(command, "-op", "./talks.py:Talks", "-U", "shop", *into, env=env)
        )
        assert done.returncode != 0 or command == "plan", done.stdout + done.stderr
        if command in ("replay", "start"):
            assert "***" in done.stdout + done.stderr, done.stderr
