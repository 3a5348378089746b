"""What people mistype: settings, tables, names, operators; and what others would slip in."""

from __future__ import annotations

import os

import pytest

DOWNLOAD = ("start", "-op", "sftp.CsvDownloader", "--id", "dl")
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("start", "-op", "sftp.CsvDownlaoder"), ("'CsvDownlaoder'", "did you mean 'CsvDownloader'?")),
        (("start", "-op", "stfp.CsvDownloader"), ("'stfp.CsvDownloader'", "did you mean 'sftp.CsvDownloader'?")),
        (("start", "-op", "kafka.Downloader"), ("'kafka' is not built yet",)),
        (("start", "-op", "mine.mod:Cls"), ("no module 'mine'", "./file.py:Cls")),
        (("start", "-op", "./mine.py:Cls"), ("no file 'mine.py'",)),
        (("start",), ("no operator was given", "-op")),
        ((*DOWNLOAD, "--datastroe", "x"), ("--datastroe", "did you mean '--datastore'?")),
        ((*DOWNLOAD, "-t", "soon"), ("--execution-timeout", "'soon'", "'15m'")),
        ((*DOWNLOAD, "-e", "slaes"), ("'slaes' matches no table", "did you mean 'sales'?")),
        (("start", "-op", "sftp.CsvDownloader", "--id", "../x"), ("'../x' is a path, not a name", "letters")),
        ((*DOWNLOAD, "-u", ".."), ("'..' is a path, not a name",)),
        (("strat",), ("no command 'strat'", "did you mean 'start'?")),
        ((*DOWNLOAD, "--datastore", "config.yaml"), ("config.yaml is no folder", "--datastore")),
        ((*DOWNLOAD, "--datastore", "config.yaml/x"), ("config.yaml is no folder", "--datastore")),
        ((*DOWNLOAD, "--datastore", "s4://bucket"), ("no datastore is called s4://", "s3://")),
        ((*DOWNLOAD, "--datastore", "s3:///x"), ("names no bucket", "s3://bucket/prefix")),
        ((*DOWNLOAD, "-c", "nosuch.yaml"), ("nosuch.yaml", "No such file")),
    ],
    ids=lambda v: " ".join(v[1:]) if isinstance(v, tuple) else "",
)
def test_a_command(refused, table, sftp, args, says) -> None:  # type: ignore[no-untyped-def]
    table("good")
    refused(*args, env=sftp, says=says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tbls:\n  sales: {path: /x, uniqe_by: id}\n", ("config.yaml:2:21", "uniqe_by", "did you mean 'unique_by'?")),
        ("tbls:\n  ../../x: {path: /x}\n", ("config.yaml:2:3", "'../../x' is a path, not a name")),
        ("config: {intervall: 3}\n", ("config.yaml:1:10", "intervall", "did you mean 'interval'?")),
        ("config: {threads: many}\n", ("config.yaml:1:10", "threads", "'many'")),
        ("tables: {}\n", ("config.yaml:1:1", "did you mean 'tbls'?")),
        ("cnxns: {default: {uri: sftp://x}}\n", ("cnxns", "ACHVY_CNXN__DEFAULT__URI")),
        (BOMB + "tbls: *h\n", ("config.yaml:1:4", "aliases and anchors", "write the value out")),
        ("tbls:\n  a: {path: /x}\n  a: {path: /y}\n", ("config.yaml:3:3", "'a' stands here twice", "line 2")),
        ("# " + "x" * (2 << 20) + "\n", ("longer than 1 MiB",)),
        (
            "tbls: !!python/object/apply:os.system [touch owned]\n",
            ("config.yaml:1:7", "!!python/object/apply:os.system", "not allowed"),
        ),
        ("tbls: " + "[" * 5000 + "]" * 5000 + "\n", ("nested deeper than 64",)),
        ("tbls:\n\tsales: {}\n", ("config.yaml:2:1", "spaces")),
        ("tbls: {sales: [\n", ("config.yaml:2:1",)),
        ("tbls: {sales: {path: '${NOPE}/x'}}\n", ("config.yaml:1:22", "${NOPE} is not set", "$${NOPE}")),
        ("tbls: {sales: {path: /x, columns: {a: itn}}}\n", ("tbls.sales.columns.a", "'itn'", "int")),
        ("tbls: {sales: {path: /x, delimiter: ab}}\n", ("tbls.sales.delimiter", "'ab'", "tab")),
        ("tbls: {sales: {delimiter: /t}}\n", ("tbls.sales", "`path` is missing")),
        ("tbls: {sales: {path: /../x}}\n", ("tbls.sales.path", "..")),
        ("tbls: {sales: {path: /x, mask: {a: sha256}}}\n", ("ACHVY_MASK_KEY is not set", "openssl rand")),
    ],
    ids=lambda v: v[:40] if isinstance(v, str) else "",
)
def test_a_configuration(anchovy, refused, sftp, text, says) -> None:  # type: ignore[no-untyped-def]
    anchovy.config(text)
    refused(*DOWNLOAD, env=sftp, says=says)
    assert not (anchovy.folder / "owned").exists()
    assert {p.name for p in anchovy.folder.iterdir()} <= {"config.yaml", ".anchovies"}


def test_variables(refused, table, sftp) -> None:  # type: ignore[no-untyped-def]
    table("good")
    refused(*DOWNLOAD, env={**sftp, "ACHVY_DATASTOER": "x"}, says=("ACHVY_DATASTOER", "did you mean 'ACHVY_DATASTORE'?"))
    refused(*DOWNLOAD, env={**sftp, "ACHVY_THREADS": "two"}, says=("ACHVY_THREADS", "'two'"))


def test_a_missing_driver_is_named_with_its_extra(anchovy, refused, table, sftp) -> None:  # type: ignore[no-untyped-def]
    """The library is hidden from the process by a `sitecustomize` that takes it away."""
    table("good")
    hide = "import sys\nfrom importlib.machinery import PathFinder\nfind = PathFinder.find_spec\n"
    hide += "PathFinder.find_spec = classmethod(lambda c, n, *a: None if n.split('.')[0] in ('asyncssh', 'duckdb') else find(n, *a))\n"
    (anchovy.folder / "hidden").mkdir()
    (anchovy.folder / "hidden" / "sitecustomize.py").write_text(hide)
    path = os.pathsep.join(p for p in (str(anchovy.folder / "hidden"), os.environ.get("PYTHONPATH", "")) if p)
    refused(
        *DOWNLOAD, env={**sftp, "PYTHONPATH": path}, says=("'asyncssh', which is not installed", "pip install 'anchovies[sftp]'")
    )


def test_an_upstream_with_a_typo(refused, kept) -> None:  # type: ignore[no-untyped-def]
    up = ("start", "-op", "sql.Uploader", "--id", "wh")
    env = {"ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite"}
    refused(*up, "-U", "god", env=env, says=("'god' has kept nothing", "did you mean 'good'?"))
    refused(*up, env=env, says=("-U",))
    refused(*up, "-U", "good", "-e", "slaes", env=env, says=("'slaes' matches no table", "did you mean 'sales'?"))


def test_a_table_of_a_shared_configuration_that_nothing_was_kept_of(anchovy, refused, kept) -> None:  # type: ignore[no-untyped-def]
    up = ("start", "-op", "sql.Uploader", "--id", "wh", "-U", "good")
    env = {"ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite"}
    anchovy.config("tbls:\n  sales: {path: /bad/good.tsv}\n  returns: {path: /bad/none.tsv}\n")
    refused(*up, env=env, says=("tbls.returns: no upstream has a table", "--upstream-may-be-missing"))
    assert "loaded sales 2 rows" in anchovy.ok(*up, "--upstream-may-be-missing", env=env).stderr


def test_a_history_without_a_key(refused, table, kept) -> None:  # type: ignore[no-untyped-def]
    table("good", "write: scd")
    up = ("start", "-op", "sql.Uploader", "--id", "wh", "-U", "good")
    env = {"ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite"}
    refused(*up, env=env, says=("`write: scd`", "unique_by", "`write: append`"))
