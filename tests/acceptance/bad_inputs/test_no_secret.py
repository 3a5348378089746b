"""Secrets in the environment, every command, errors forced where they hurt: the runner searches what is printed and stored."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

LEAK = '''
import base64, os, urllib.parse
from anchovies.sdk import Connection, Downloader, Secret, context, source

class Api(Connection):
    token: Secret
    uri: Secret

class Leaky(Downloader):
    """Does with its secret what people do by mistake."""
    api: Api

    @source("polite")
    def polite(self, **kwds):
        context().progress(warning=f"the token is {self.api.token}")
        yield {"n": 1}

    @source("rude")
    def rude(self, **kwds):
        token = self.api.token.reveal()
        context().progress(warning=f"trying with {token}")
        yield {"n": 1}
        coded = base64.b64encode(token.encode()).decode()
        raise ValueError(f"GET https://h/?key={urllib.parse.quote(token, safe='')} Basic {coded}: {token} refused")
'''


def test_no_command_prints_or_stores_a_secret(anchovy, secret, server, sftp, table) -> None:  # type: ignore[no-untyped-def]
    anchovy.env = {
        **sftp,
        "ACHVY_CNXN__API__TOKEN": secret,
        "ACHVY_CNXN__API__URI": f"https://user:{quote(secret, safe='')}@example.com",
        "ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite",
    }
    (anchovy.folder / "leak.py").write_text(LEAK)
    for args in (
        ("start", "-op", "./leak.py:Leaky", "-i", "leaky", "--log-level", "debug"),
        ("start", "-op", "./leak.py:Leaky", "-i", "leaky", "--json"),
        ("start", "-op", "./leak.py:Leaky", "-i", "leaky", "-t", "30"),
        ("preview", "-op", "./leak.py:Leaky", "-i", "leaky", "--log-level", "debug"),
        ("plan", "-op", "./leak.py:Leaky", "-i", "leaky"),
        ("config", "-op", "./leak.py:Leaky", "-i", "leaky"),
        ("config", "--json"),
        ("plugin", "sftp"),
        ("checkpoint", "list", "-i", "leaky"),
    ):
        done = anchovy(*args)
        if args[0] == "start":
            assert done.returncode == 1
            assert "***" in done.stdout + done.stderr, "the messages went through, without the secret"
        if "debug" in args and args[0] == "start":
            assert "leak.py" in done.stderr and "raise ValueError" in done.stderr, "the traceback was told"
    table("good")
    for args in (
        ("start", "-op", "sftp.CsvDownloader", "-i", "good"),
        ("start", "-op", "sql.Uploader", "-i", "wh", "-U", "good"),
        ("plan", "-op", "sftp.CsvDownloader", "-i", "good"),
        ("preview", "-op", "sftp.CsvDownloader", "-i", "good"),
        ("checkpoint", "history", "-i", "good"),
    ):
        anchovy.ok(*args, "--log-level", "debug") if args[0] == "start" else anchovy.ok(*args)


def test_the_search_finds_what_it_looks_for(anchovy, secret) -> None:  # type: ignore[no-untyped-def]
    """Otherwise the tests above would say nothing."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("acceptance_conftest", Path(__file__).parents[1] / "conftest.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["acceptance_conftest"] = module
    spec.loader.exec_module(module)
    for text in (
        secret,
        quote(secret, safe=""),
        *(base64.b64encode(b"x" * n + secret.encode() + b"yz").decode() for n in range(5)),
    ):
        assert module.leaks(f"before {text} after".encode()), text
    assert not module.leaks(b"nothing here")
