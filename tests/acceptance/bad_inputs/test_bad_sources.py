"""Servers that cannot be trusted or reached, and files that are not what they should be."""

from __future__ import annotations

import pytest

from anchovies.testing.servers import asyncssh_server

DOWNLOAD = ("start", "-op", "sftp.CsvDownloader", "--id", "dl")


def test_an_unknown_host_is_refused_until_it_is_trusted(anchovy, refused, table, server, sftp) -> None:  # type: ignore[no-untyped-def]
    table("good")
    del sftp["ACHVY_CNXN__HOST_KEY"]
    trust = f"anchovy plugin sftp trust {server.uri_host}"
    refused(*DOWNLOAD, env=sftp, says=(server.fingerprint, trust, f"ACHVY_CNXN__HOST_KEY={server.fingerprint}"))
    done = anchovy.ok("plugin", "sftp", "trust", server.uri_host, "--yes")
    assert server.fingerprint in done.stdout
    assert "committed sales 2 rows" in anchovy.ok(*DOWNLOAD, env=sftp).stderr


def test_a_changed_host_key_is_refused(anchovy, refused, table, server, sftp, tmp_path) -> None:  # type: ignore[no-untyped-def]
    table("good")
    pinned = sftp.pop("ACHVY_CNXN__HOST_KEY")
    known = anchovy.folder / ".ssh" / "known_hosts"
    with asyncssh_server(tmp_path) as before:
        known.parent.mkdir()
        known.write_text(before.known_hosts_line.replace(before.uri_host.split(":")[1], str(server.port)) + "\n")
    says = ("HAS CHANGED", server.fingerprint, str(known), "ssh-keygen", "ask whoever runs the server")
    refused(*DOWNLOAD, env=sftp, says=says)
    other = pinned[:-1] + ("A" if pinned[-1] != "A" else "B")
    refused(*DOWNLOAD, env={**sftp, "ACHVY_CNXN__HOST_KEY": other}, says=(server.fingerprint, other, "refused"))
    refused(*DOWNLOAD, env={**sftp, "ACHVY_CNXN__HOST_KEY": "nonsense"}, says=("HOST_KEY", "SHA256:"))


def test_a_wrong_password(refused, table, sftp, server) -> None:  # type: ignore[no-untyped-def]
    table("good")
    env = {**sftp, "ACHVY_CNXN__URI": server.uri("wrong-kanarie")}
    said = refused(*DOWNLOAD, env=env, says=(server.uri_host, "'user'", "ACHVY_CNXN__URI", "ACHVY_CNXN__PASSWORD"))
    assert "wrong-kanarie" not in said


def test_a_missing_connection(refused, table) -> None:  # type: ignore[no-untyped-def]
    table("good")
    refused(*DOWNLOAD, says=("'default'", "set ACHVY_CNXN__URI", "password (optional)"))


def test_a_misspelt_attribute(refused, table, sftp, secret) -> None:  # type: ignore[no-untyped-def]
    table("good")
    refused(*DOWNLOAD, env={**sftp, "ACHVY_CNXN__PASWORD": secret}, says=("did you mean ACHVY_CNXN__PASSWORD?",))


def test_a_uri_that_is_none(refused, table, secret) -> None:  # type: ignore[no-untyped-def]
    table("good")
    for uri in (f"ftp://user:{secret}@h", f"sftp://user:{secret}@h", "sftp://"):  # the secret is not percent-encoded
        refused(*DOWNLOAD, env={"ACHVY_CNXN__URI": uri}, says=("URI", "sftp://user:password@"))


def test_nobody_listens(refused, table) -> None:  # type: ignore[no-untyped-def]
    table("good")
    env = {"ACHVY_CNXN__URI": "sftp://user:x@127.0.0.1:1"}
    refused(*DOWNLOAD, env=env, code=1, says=("127.0.0.1:1 cannot be reached: Connection refused", "ACHVY_CNXN__URI"))


@pytest.mark.parametrize(
    ("file", "more", "says"),
    [
        ("ragged", "", ("/bad/ragged.tsv, line 3", "3 fields where the first row has 2", "`delimiter:`")),
        ("short", "", ("/bad/short.tsv, line 3", "1 field", "2")),
        ("unclosed", "", ("/bad/unclosed.tsv, line 2", "never closed", "`quote: none`")),
        ("latin", "", ("/bad/latin.tsv", "line 2", "not utf-8", "`encoding:`")),
        ("unfit", "columns: {a: int}", ("/bad/unfit.tsv, line 3", "column 'a'", "'x'", "int", "`str`")),
        ("twice", "", ("/bad/twice.tsv, line 1", "'a' twice", "header")),
        ("closed", "", ("/bad/closed.tsv", "refuses to read it (permission denied)", "owner and mode")),
        ("absent", "", ("there is no file /bad/absent.tsv", "`path:`")),
    ],
)
def test_a_bad_file_is_named_with_its_line(refused, table, sftp, file, more, says) -> None:  # type: ignore[no-untyped-def]
    table(file, *([more] if more else []))
    refused(*DOWNLOAD, env=sftp, code=1, says=says)


def test_good_files_beside_a_bad_one_are_kept(anchovy, sftp) -> None:  # type: ignore[no-untyped-def]
    anchovy.config("tbls:\n  sales: {path: '/bad/good.tsv, /bad/ragged.tsv', delimiter: /t}\n")
    done = anchovy(*DOWNLOAD, env=sftp)
    assert (done.returncode, "committed sales 2 rows" in done.stderr, "line 3" in done.stderr) == (1, True, True), done.stderr


def test_numbers_that_would_sort_as_text(refused, table, sftp) -> None:  # type: ignore[no-untyped-def]
    table("numbers", "unique_by: id", "sort_by: -id")
    refused(*DOWNLOAD, env=sftp, says=("sort_by", "'id' is text", "'10' comes before '9'", "columns: {id: int}", "autodiscover"))


def test_a_key_that_no_file_has(refused, table, sftp) -> None:  # type: ignore[no-untyped-def]
    table("good", "unique_by: idd")
    refused(*DOWNLOAD, env=sftp, says=("tbls.sales.unique_by", "'idd'", "did you mean 'id'?"))
