"""`config.yaml`: read by the core schema, safely, every mistake placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anchovies.core.config import Config, config_from, load_config, parse_config
from anchovies.core.errors import ConfigError


def refused(text: str, env: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as e:
        parse_config(text, env or {}, "config.yaml")
    return e.value


def values(text: str) -> Any:
    return parse_config(f"x-values: 1\nconfig: {{v: {text}}}", {}).settings["v"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("2026-01-02", "2026-01-02"),
        ("=", "="),
        ("<<", "<<"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("12", 12),
        ("-5", -5),
        ("0x1f", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("00.5", "00.5"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_the_core_schema(text: str, value: object) -> None:
    found = values(text)
    assert found == value
    assert type(found) is type(value)


def test_keys_are_texts() -> None:
    assert list(parse_config("config: {1: a, true: b, null: c}", {}).settings) == ["1", "true", "null"]


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nconfig: {c: [*b, *b]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "config.yaml:1:4: aliases and anchors"),
        ("config:\n  id: *x", "config.yaml:2:7: aliases"),
        ("config:\n  id: a\n  id: b", "config.yaml:3:3: the key 'id' stands here twice"),
        ('{"config": {"id": 1, "id": 2}}', "config.yaml: the key 'id' stands in one map twice"),
        ("config: !!python/object/apply:os.system [x]", "config.yaml:1:9: the tag"),
        ("config: !x 1", "config.yaml:1:9: the tag !x"),
        ("? [a]\n: 1", "config.yaml:1:3: a key must be a text"),
        ("config: {}\n---\nconfig: {}", "a second document"),
        ("config: [1", "config.yaml:2:1"),
        ("config:\n\t- x", "config.yaml:2:1"),
        ("\x00", "config.yaml"),
        ("confg: {}", "config.yaml:1:1: confg: unknown key"),
        ("tbls:\n  sales: 5", "config.yaml:2:3: tbls.sales: expected a map, got 5"),
        ("tbls: [sales]", "config.yaml:1:1: tbls: expected a map"),
        ("[1]", "config.yaml: expected a map"),
        ("tbls:\n  ../../x: {}", "config.yaml:2:3: tbls: table '../../x' is a path"),
        ("config: {schemas: {a: 1}}", "config.schemas.a: expected the name of a schema"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in refused(text).message


def test_it_is_bounded() -> None:
    assert "deeper than 64" in refused("[" * 100 + "]" * 100).message
    assert "deeper than 64" in refused('{"a":' * 100 + "1" + "}" * 100).message
    assert "deeper than 64" in refused('{"a":' * 100_000 + "1" + "}" * 100_000).message
    assert "longer than 1 MiB" in refused("x-a: " + "y" * (1 << 20)).message


def test_unknown_keys_name_the_nearest_and_x_is_free() -> None:
    assert refused("tbl: {}").hint == "did you mean 'tbls'?"
    assert parse_config("x-mine: {any: thing}", {}).tbls == {}


def test_connections_name_the_variable() -> None:
    found = refused("cnxns:\n  api:\n    uri: secret-value")
    assert "ACHVY_CNXN__API__URI" in (found.hint or "")
    assert "secret-value" not in found.message + (found.hint or "")


def test_variables_are_filled_in() -> None:
    config = parse_config("tbls: {a: {path: '${BASE}/${X}.csv', n: 5, raw: '$${X}'}}", {"BASE": "/b", "X": "x"})
    assert config.tbls["a"] == {"path": "/b/x.csv", "n": 5, "raw": "${X}"}
    assert parse_config('{"tbls": {"a": {"path": "${X}"}}}', {"X": "j"}).tbls["a"]["path"] == "j"


def test_a_variable_never_becomes_yaml() -> None:
    assert parse_config("config: {id: '${X}'}", {"X": "a\nb: [*c"}).settings["id"] == "a\nb: [*c"


def test_a_missing_variable_is_named_and_placed() -> None:
    found = refused("tbls:\n  a:\n    path: ${NOPE}")
    assert found.message == "config.yaml:3:11: ${NOPE} is not set"
    assert "NOPE" in (found.hint or "")


def test_json_is_taken() -> None:
    config = parse_config('{\n\t"config": {"id": "\\ud83d\\ude00"}, "tbls": {"a": null}}', {})
    assert config.settings["id"] == "😀"
    assert config.tbls == {"a": {}}


def test_where_things_stand() -> None:
    config = parse_config("config:\n  id: x\n", {}, "c.yaml")
    assert config.at("config", "id") == "c.yaml:2:3: config.id"
    assert config_from({"config": {"id": "x"}}).at("config", "id") == "config.id"


class TestWhichFile:
    def test_the_default_one(self, tmp_path: Path) -> None:
        assert load_config({}, {}, str(tmp_path)) == Config()
        (tmp_path / "config.yaml").write_text("config: {id: here}")
        assert load_config({}, {}, str(tmp_path)).settings["id"] == "here"

    def test_text_or_path(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("\ufeffconfig: {id: file}")
        for given in ({"config": str(tmp_path / "c.yaml")}, {"config_file": str(tmp_path / "c.yaml")}):
            assert load_config(given, {"ACHVY_CONFIG": "{}"}).settings["id"] == "file"
        assert load_config({}, {"ACHVY_CONFIG": "config:\n  id: text"}).settings["id"] == "text"
        assert load_config({"config": '{"config": {"id": "text"}}'}, {}).settings["id"] == "text"

    def test_what_is_missing_or_contradicts(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read the configuration .*nope.yaml: No such file"):
            load_config({"config": str(tmp_path / "nope.yaml")}, {})
        with pytest.raises(ConfigError, match="both given"):
            load_config({"config": "{}", "config_file": "x"}, {})
        (tmp_path / "latin.yaml").write_bytes(b"config: {id: \xe9}")
        with pytest.raises(ConfigError, match="not UTF-8 at byte 13"):
            load_config({"config": str(tmp_path / "latin.yaml")}, {})


def test_schemas() -> None:
    config = parse_config("config: {schemas: {sales: mapped, me/other: theirs}}", {})
    assert config.schema_for({}, "prod", "sales_sftp") == "sales_sftp"
    assert config.schema_for({}, "me", "sales_sftp") == "sales_sftp__me"
    assert config.schema_for({}, "me", "sales") == "mapped"
    assert config.schema_for({}, "me", "other") == "theirs"
    assert config.schema_for({"ACHVY_CNXN__SCHEMAS__SALES": "env"}, "me", "sales") == "env"
    assert config.schema_for({"ACHVY_CNXN__SCHEMAS__SALES_EU": "env"}, "me", "sales-eu") == "env"
