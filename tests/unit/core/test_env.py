"""Variables, `.env`, connections and the redactor."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.env import MOST_SECRET, Environment, Redactor, connections_from, parse_dotenv, read_environment, schemas_from
from anchovies.core.errors import ConfigError


def plain(env: dict[str, str]) -> dict[str, dict[str, str]]:
    return {id: {k: v.reveal() for k, v in a.items()} for id, a in connections_from(env).items()}


def test_connections() -> None:
    env = {
        "ACHVY_CNXN__URI": "u",
        "ACHVY_CNXN__PPK_PATH": "/k",
        "ACHVY_CNXN__API__TOKEN": "t",
        "ANCHY_CNXN__PASSWORD": "p",
        "ACHVY_ID": "x",
        "ACHVY_CNXN__DB__JSONDATA": '{"URL": "x", "port": 5, "ssl": true, "none": null}',
        "ACHVY_CNXN__SCHEMAS__SALES": "s",
    }
    assert plain(env) == {
        "default": {"uri": "u", "ppk_path": "/k", "password": "p"},
        "api": {"token": "t"},
        "db": {"url": "x", "port": "5", "ssl": "true"},
    }
    assert schemas_from(env) == {"SALES": "s"}


def test_a_value_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("pass\nword\n\n")
    assert plain({"ACHVY_CNXN__API__TOKEN_FILE": str(tmp_path / "s")}) == {"api": {"token": "pass\nword\n"}}
    with pytest.raises(ConfigError, match=r"ACHVY_CNXN__TOKEN_FILE: .*No such file"):
        connections_from({"ACHVY_CNXN__TOKEN_FILE": str(tmp_path / "nope")})


@pytest.mark.parametrize("variable", ["ACHVY_CNXN__", "ACHVY_CNXN____URI", "ACHVY_CNXN__API__"])
def test_names_that_say_nothing(variable: str) -> None:
    with pytest.raises(ConfigError, match="expected ACHVY_CNXN__<ID>__<ATTRIBUTE>"):
        connections_from({variable: "secret-value"})


@pytest.mark.parametrize("text", ["not json secret-value", '["secret-value"]', '"secret-value"'])
def test_jsondata_that_is_none_shows_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match="ACHVY_CNXN__JSONDATA: expected a JSON object") as e:
        connections_from({"ACHVY_CNXN__JSONDATA": text})
    assert "secret-value" not in str(e.value)


def test_one_attribute_from_two_variables() -> None:
    with pytest.raises(ConfigError, match="is set by another variable"):
        connections_from({"ACHVY_CNXN__URI": "a", "ANCHY_CNXN__URI": "b"})
    assert plain({"ACHVY_CNXN__URI": "a", "ANCHY_CNXN__URI": "a"}) == {"default": {"uri": "a"}}


def test_dotenv() -> None:
    text = "\ufeff# c\n\nA=1\nexport B = two words # c\nC='a # $b'\nD=\"x\\n\\\"y\\\"\"\nE=\nF=a#b\nG='z' # c\n"
    assert parse_dotenv(text) == {"A": "1", "B": "two words", "C": "a # $b", "D": 'x\n"y"', "E": "", "F": "a#b", "G": "z"}


@pytest.mark.parametrize("line", ["secret-value", "A='secret-value", "1A=secret-value", 'A="secret-value'])
def test_dotenv_names_the_line_and_never_its_text(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^\.env:2: ") as e:
        parse_dotenv(f"OK=1\n{line}\n")
    assert "secret-value" not in str(e.value)


def test_secrets_in_files(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"correct-horse\r\n")
    for variable in ("DB__PASSWORD_FILE", "DB__PASSWORD__FILE", "db__password__file"):
        assert plain({f"ACHVY_CNXN__{variable}": str(tmp_path / "s")}) == {"db": {"password": "correct-horse"}}
    (tmp_path / "link").symlink_to(tmp_path / "s")  # as Kubernetes mounts them
    assert plain({"ACHVY_CNXN__TOKEN_FILE": str(tmp_path / "link")}) == {"default": {"token": "correct-horse"}}
    assert plain({"ACHVY_CNXN__X__FILE": str(tmp_path)}) == {"x": {"file": str(tmp_path)}}, "an attribute of that name"
    largest = "x" * MOST_SECRET
    (tmp_path / "large").write_text(largest)
    assert plain({"ACHVY_CNXN__TOKEN_FILE": str(tmp_path / "large")}) == {"default": {"token": largest}}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"correct-horse" * 6000, "it has more than 64 KiB"),
        ("ä".encode() * 40_000, "it has more than 64 KiB"),
        (b"correct-horse\xff", "it is not UTF-8"),
        ("folder", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("nothing", "No such file"),
        ("locked", "Permission denied"),
    ],
)
def test_files_that_hold_no_secret(tmp_path: Path, content: bytes | str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "locked":
        path.write_text("correct-horse")

        def refuse(self: Path, *args: object) -> None:  # root may read everything
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError) as caught:
        connections_from({"ACHVY_CNXN__DB__TOKEN_FILE": str(path)})
    assert f"ACHVY_CNXN__DB__TOKEN_FILE: {path}: {why}" in caught.value.message
    assert "correct-horse" not in f"{caught.value.message} {caught.value.hint}"


def test_a_real_variable_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ONE=file\nTWO=file\n")
    monkeypatch.setenv("ONE", "real")
    env = read_environment(str(tmp_path))
    assert (env["ONE"], env["TWO"]) == ("real", "file")
    assert (env.from_file("ONE"), env.from_file("TWO")) == (False, True)
    assert "real" not in repr(env)


SECRET = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8, max_size=30).filter(lambda s: "://" not in s)


@given(SECRET)
def test_a_secret_is_masked_in_every_form(secret: str) -> None:
    redact = Redactor.of({"ACHVY_CNXN__API__TOKEN": secret})
    for form in (
        secret,
        quote(secret, safe=""),
        json.dumps(secret),
        *(base64.b64encode(b"u" * n + secret.encode() + b"z").decode() for n in range(4)),
    ):
        text = redact(f"<{form}>")
        assert secret not in text
        assert "***" in text


@pytest.mark.parametrize("password", ["correct-horse", "with/slash#and@more", "pct%40encoded", "a:colon:inside"])
def test_of_a_url_only_the_password_is_masked(password: str) -> None:
    redact = Redactor.of({"ACHVY_CNXN__URI": f"sftp://user:{password}@example.com:22/path"})
    assert redact(f"cannot reach example.com:22 as user with {password}") == "cannot reach example.com:22 as user with ***"


def test_query_parameters_and_tokens() -> None:
    redact = Redactor.of({"ACHVY_CNXN__A__URL": "https://hooktoken1@h/x?api_key=verysecret&page=1234567890"})
    assert redact("verysecret hooktoken1 1234567890") == "*** *** 1234567890"


def test_what_is_no_secret_stays_readable() -> None:
    redact = Redactor.of(
        {"ACHVY_CNXN__PPK_PATH": "/home/me/key", "ACHVY_CNXN__HOST_KEY": "SHA256:abcdefgh", "ACHVY_CNXN__DB__PASSWORD": "short"}
    )
    assert redact("/home/me/key SHA256:abcdefgh short") == "/home/me/key SHA256:abcdefgh short"


def test_what_is_broken_is_masked_as_it_stands() -> None:
    assert Redactor.of({"ACHVY_CNXN__JSONDATA": "{broken-secret"})("{broken-secret") == "***"


def test_nothing_shows_a_secret() -> None:
    found = connections_from({"ACHVY_CNXN__URI": "secret-value"})
    assert "secret-value" not in repr(found) + str(found) + f"{found['default']['uri']}"
    assert "secret-value" not in repr(Environment({"ACHVY_CNXN__URI": "secret-value"}))
