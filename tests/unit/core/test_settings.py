"""Settings: declared once, found in one order, wrong ones refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchovies.core.config import Config, config_from
from anchovies.core.declared import BY_NAME, SETTINGS
from anchovies.core.env import Environment
from anchovies.core.errors import ConfigError
from anchovies.core.settings import Settings, resolve


def settings(cli: dict[str, Any] | None = None, env: Any = None, config: dict[str, Any] | None = None) -> Settings:
    return resolve({"id": "x", **(cli or {})}, env or {}, config_from({"config": config or {}}))


def refused(**given: Any) -> ConfigError:
    with pytest.raises(ConfigError) as e:
        settings(**given)
    return e.value


@given(st.sets(st.sampled_from(["cli", "real", "dotenv", "config"])))
def test_the_first_that_has_it_wins(places: set[str]) -> None:
    real = {"ACHVY_INTERVAL": "2"} if "real" in places else {}
    dotenv = {"ACHVY_INTERVAL": "3"} if "dotenv" in places else {}
    found = settings(
        {"interval": "1"} if "cli" in places else {}, Environment(real, dotenv), {"interval": 4} if "config" in places else {}
    )
    wanted = {"cli": (1, "command line"), "real": (2, "ACHVY_INTERVAL"), "dotenv": (3, ".env: ACHVY_INTERVAL")}
    wanted["config"] = (4, "config: config.interval")
    best = next((wanted[p] for p in ("cli", "real", "dotenv", "config") if p in places), (60, "default"))
    assert (found.interval, found.origin("interval")) == best


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("commit_bytes", "64 MiB", 64 << 20),
        ("commit_bytes", "64MB", 64_000_000),
        ("commit_bytes", "1024", 1024),
        ("execution_timeout", "90", 90),
        ("execution_timeout", "90s", 90),
        ("execution_timeout", "15m", 900),
        ("grace", "2h", 7200),
        ("grace", "0", 0),
        ("service", "yes", True),
        ("service", "0", False),
        ("upstream", "a, b", ("a", "b")),
        ("upstream", '["a,b", "c"]', ("a,b", "c")),
        ("if_running", "WAIT", "wait"),
        ("data_buffer_cls", "my.mod:Cls", "my.mod:Cls"),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    assert getattr(settings({name: text}), name) == value
    assert getattr(settings(env={f"ACHVY_{name.upper()}": text}), name) == value


WRONG = {
    "int": "many",
    "count": "-1",
    "batches": "0 batches",
    "bool": "maybe",
    "bytes": "64 elephants",
    "duration": "soon",
    "list": "[1]",
    "choice": "perhaps",
    "class": "two words",
    "text": 12,
    "place": 12,
}


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.config_keys], ids=lambda s: s.name)
def test_a_wrong_type_names_the_key(setting: Any) -> None:
    with pytest.raises(ConfigError) as e:
        resolve({}, {}, config_from({"config": {setting.name: WRONG[setting.kind.name]}}))
    assert e.value.message.startswith(f"config.{setting.config_keys[0]}: expected {setting.kind.wants}")


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.variables and s.kind.name not in ("text", "place")], ids=lambda s: s.name
)
def test_a_wrong_type_names_the_variable(setting: Any) -> None:
    for variable in setting.variables:
        assert refused(env={variable: str(WRONG[setting.kind.name])}).message.startswith(f"{variable}: expected")


@pytest.mark.parametrize("text", ["-5", "nan", "inf", "1e9", "0.5 B", "", "1 PB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        settings({"commit_bytes": text or " "})


def test_a_timeout_is_above_zero() -> None:
    assert "above 0" in refused(cli={"execution_timeout": "0"}).message


LATER = [s.name for s in SETTINGS if s.later]


@pytest.mark.parametrize("name", LATER)
def test_what_is_not_built_says_so(name: str) -> None:
    value = {"list": "a", "class": "a.B", "text": "x", "bool": "true"}.get(BY_NAME[name].kind.name, "7")
    assert refused(cli={name: value}).message.endswith(f"{name} is not built yet (see CHANGELOG)")


def test_what_changes_nothing_is_no_error() -> None:
    assert settings({"threads": "1", "workers": "1", "worker_num": "0"}).threads == 1


def test_aliases_and_opposites() -> None:
    assert settings(env={"ACHVY_METASTORE": "/m"}).datastore == "/m"
    assert settings(env={"ACHVY_IS_TASK_EXECUTOR": "false"}).service is True
    assert settings(config={"is_task_executor": False}).service is True
    assert settings(env={"ACHVY_SERVICE": "1"}).commit_seconds == 5
    assert settings().commit_seconds == 30
    assert settings(env={"ACHVY_TASK_METASTORE_CLASS": "HiveTaskMetastore"}).task_store_cls == "HiveTaskMetastore"


def test_two_variables_that_contradict_one_another() -> None:
    found = refused(env={"ACHVY_SERVICE": "1", "ACHVY_IS_TASK_EXECUTOR": "1"})
    assert "ACHVY_SERVICE and ACHVY_IS_TASK_EXECUTOR contradict one another" in found.message
    assert settings(env=Environment({"ACHVY_SERVICE": "1"}, {"ACHVY_IS_TASK_EXECUTOR": "1"})).service is True


@pytest.mark.parametrize(
    ("given_", "hint"),
    [
        ({"env": {"ACHVY_EXECUTON_TIMEOUT": "secret-value"}}, "did you mean 'ACHVY_EXECUTION_TIMEOUT'?"),
        ({"env": {"ACHVY_CNXN_URI": "secret-value"}}, "connections are written ACHVY_CNXN__"),
        ({"config": {"comit_bytes": "secret-value"}}, "did you mean 'commit_bytes'?"),
        ({"cli": {"upstreams": "secret-value"}}, "did you mean 'upstream'?"),
    ],
)
def test_the_unknown_is_refused_with_the_nearest(given_: dict[str, Any], hint: str) -> None:
    found = refused(**given_)
    assert "unknown" in found.message
    assert (found.hint or "").startswith(hint)
    assert "secret-value" not in found.message + (found.hint or "")


def test_lookalikes_warn() -> None:
    names = {
        "ACHVYID": "x",
        "ANCHOVY_ID": "x",
        "ACHVI_USER": "x",
        "ANCHY_CNXN__URI": "x",
        "ACHY_CNXN__A__B": "x",
        "ACHIEVE": "x",
        "PATH": "x",
    }
    found = settings(env=names).warnings
    assert [w.split()[0] for w in found] == ["ACHVI_USER", "ACHVYID", "ACHY_CNXN__A__B", "ANCHOVY_ID", "ANCHY_CNXN__URI"]
    assert "ACHVYID is not read; did you mean ACHVY_ID?" in found
    assert "ANCHY_CNXN__URI works, but its name is ACHVY_CNXN__URI" in found


def test_dataset_variables_are_taken_with_a_warning() -> None:
    found = settings(env={"DATASET_PRIMARY_LENGTH": "60"})
    assert found.dataset_primary_length == 60
    assert found.warnings == ("DATASET_PRIMARY_LENGTH is set, but nothing uses it yet",)


def test_who_it_is_by_default() -> None:
    found = resolve({}, {"ACHVY_PORT": "8080", "LOGNAME": "tasytuna"}, Config())
    assert found.user == "tasytuna"
    assert found.id.endswith(":8080")
    assert any("no id was given" in w for w in found.warnings)


def test_production() -> None:
    assert settings({"prod": True}).user == "prod"
    assert settings({"prod": True}, {"ACHVY_USER": "me"}).user == "prod"
    assert "contradict" in refused(cli={"prod": True, "user": "me"}).message
    with pytest.raises(ConfigError, match="in production needs an id"):
        resolve({"prod": True}, {}, Config())


def test_the_datastore_by_default() -> None:
    assert settings(env={"ACHVY_HOME": "/h"}).datastore == "/h"
    assert settings().datastore.endswith("/.anchovies")
    assert "~" not in settings({"datastore": "~/d"}).datastore
    assert settings({"datastore": "s3://b/~x"}).datastore == "s3://b/~x"


def test_settings_are_frozen() -> None:
    found = settings()
    with pytest.raises(AttributeError):
        found.id = "y"
    with pytest.raises(AttributeError):
        found.no_such
    assert found.with_(id="y").id == "y"
    assert found.id == "x"
    with pytest.raises(AttributeError):
        found.with_(idd="y")


def test_every_setting_is_whole() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    flags = [f for s in SETTINGS for f in (*s.flags, *s.off_flags)]
    assert len(set(flags)) == len(flags)
    assert "-o" not in flags
    assert all(s.help and len(s.help) < 110 for s in SETTINGS)
    assert {e.setting.name for e in settings()} == set(BY_NAME)


def test_no_table_at_once_is_no_number_of_threads() -> None:
    with pytest.raises(ConfigError, match="--threads: expected a whole number, 1 or more, got '0'"):
        resolve({"id": "x", "threads": "0"}, {}, Config())
