"""Every setting, declared once: the command line, the variables, the help and the reference page come from here."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from anchovies.core.settingkinds import (
    BATCHES,
    BOOL,
    BYTES,
    CLASS,
    COUNT,
    DURATION,
    INT,
    LIST,
    PLACE,
    POSITIVE_DURATION,
    SOME,
    TEXT,
    Kind,
    choice,
)

Values = Mapping[str, Any]
Computed = Callable[[Values, Mapping[str, str]], Any]


class Setting(msgspec.Struct, frozen=True):
    """One setting. `name` is its attribute and its key under `config:`; its variable is `ACHVY_<NAME>` unless `env` names others.

    `flags` are the options of the command line; `off_flags`, `off_env`, `off_keys` say the opposite of a boolean. `default` may
    be a function of the settings that were resolved before it and of the environment; `default_text` is how the default reads.
    `later`: declared, and refused until it is built, but for the values in `harmless`. `unused`: taken, with a warning.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    default_text: str = ""
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    off_flags: tuple[str, ...] = ()
    off_env: tuple[str, ...] = ()
    off_keys: tuple[str, ...] = ()
    later: bool = False
    harmless: tuple[Any, ...] = ()
    unused: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        return (f"ACHVY_{self.name.upper()}",) if self.env is None else self.env

    @property
    def config_keys(self) -> tuple[str, ...]:
        return (self.name,) if self.keys is None else self.keys

    @property
    def repeats(self) -> bool:
        return self.kind is LIST

    def show(self, value: Any) -> str:
        """The value as a person would write it."""
        return "" if value is None else self.kind.show(value)

    @property
    def shown_default(self) -> str:
        return self.default_text or ("none" if self.default in (None, ()) else self.show(self.default))


def _user(values: Values, env: Mapping[str, str]) -> str:
    return "prod" if values["prod"] else login(env)


def login(env: Mapping[str, str]) -> str:
    """The name of whoever runs this process."""
    if name := env.get("LOGNAME") or env.get("USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def hostname() -> str:
    """The name of this machine (as `socket.gethostname()`, without loading sockets)."""
    return os.uname().nodename


def _id(values: Values, env: Mapping[str, str]) -> str:
    return f"{hostname()}:{env.get('ACHVY_PORT') or 0}"


def _datastore(values: Values, env: Mapping[str, str]) -> str:
    return str(PLACE.parse(env.get("ACHVY_HOME") or "~/.anchovies", "ACHVY_HOME"))


def _commit_seconds(values: Values, env: Mapping[str, str]) -> float:
    return 5.0 if values["service"] else 30.0


def _cls(name: str, help: str, *env: str, default_text: str = "") -> Setting:
    variables = (f"ACHVY_{name.upper()}", *env)
    return Setting(name, CLASS, help, None, default_text, flags=(f"--{name.replace('_', '-')}",), env=variables)


def _dataset(name: str, default: Any, text: str, help: str) -> Setting:
    return Setting(f"dataset_{name}", INT, help, default, text, env=(f"DATASET_{name.upper()}",), keys=(), unused=True)


IDENTITY = (
    Setting("prod", BOOL, "the same as --user prod", False, flags=("--prod",), env=(), keys=()),
    Setting("user", TEXT, "the user: whose anchovy it is", _user, "the login name, else uid<N>", flags=("-u", "--user")),
    Setting(
        "id",
        TEXT,
        "the anchovy's id; give it a name that people know",
        _id,
        "<hostname>:<ACHVY_PORT or 0>, with a warning; none with --prod",
        flags=("-i", "--id"),
    ),
    Setting(
        "datastore",
        PLACE,
        "where everything is kept: a path or a URI",
        _datastore,
        "$ACHVY_HOME, else ~/.anchovies",
        flags=("--datastore",),
        env=("ACHVY_DATASTORE", "ACHVY_METASTORE"),
    ),
    Setting(
        "config",
        TEXT,
        "the configuration itself (begins with { or has several lines), or the path of its file",
        flags=("-c", "--config"),
        keys=(),
    ),
    Setting(
        "config_file", TEXT, "path of the configuration", None, "./config.yaml if there is one", flags=("--config-file",), keys=()
    ),
)

RUN = (
    Setting(
        "operator_cls",
        CLASS,
        "what to run: a plugin path, mypkg.mod:Cls, or ./file.py:Cls",
        flags=("-op", "--op", "--operator-cls"),
    ),
    Setting(
        "service",
        BOOL,
        "run batches until stopped",
        False,
        "false: one batch, then exit",
        flags=("-S", "--service"),
        off_flags=("-T", "--task"),
        off_env=("ACHVY_IS_TASK_EXECUTOR",),
        off_keys=("is_task_executor",),
    ),
    Setting("interval", DURATION, "service: longest pause between batches", 60.0, flags=("--interval",)),
    Setting("execution_timeout", POSITIVE_DURATION, "how long a batch may take", flags=("-t", "--execution-timeout")),
    Setting("grace", DURATION, "how long after the timeout the process is ended hard", 10.0, flags=("--grace",)),
    Setting(
        "if_running", choice("skip", "wait", "fail"), "what to do if this anchovy runs already", "skip", flags=("--if-running",)
    ),
    Setting("upstream", LIST, "id of an upstream anchovy, or user/id", (), flags=("-U", "--upstream")),
    Setting(
        "upstream_may_be_missing", BOOL, "an upstream that never ran is no error", False, flags=("--upstream-may-be-missing",)
    ),
    Setting("enabled", LIST, "tables to take: names, globs, upstream.tbl", (), "all", flags=("-e", "--enable")),
    Setting("disabled", LIST, "tables to leave out; wins over --enable", (), flags=("-d", "--disable")),
    Setting("full_refresh", BOOL, "forget the checkpoints first", False, flags=("--full-refresh",), env=(), keys=()),
    Setting("backfill", TEXT, "run an incremental source over FROM..TO", flags=("--backfill",), env=(), keys=(), later=True),
    Setting(
        "batch_policy",
        choice("continue", "raise"),
        "whether the other tables go on when one fails",
        "continue",
        flags=("--batch-policy",),
    ),
    Setting(
        "max_failures", BATCHES, "service: failed batches in a row before it gives up", None, "never", flags=("--max-failures",)
    ),
    Setting("commit_bytes", BYTES, "commit at the next mark after this much", 64 << 20, flags=("--commit-bytes",)),
    Setting(
        "commit_seconds",
        DURATION,
        "commit at the next mark after this long",
        _commit_seconds,
        "30s; a service: 5s",
        flags=("--commit-seconds",),
    ),
    Setting("batch_bytes", BYTES, "most bytes of a table in a batch, as its rows lie in memory", flags=("--batch-bytes",)),
    Setting("batch_rows", COUNT, "most rows of a table in a batch", flags=("--batch-rows",)),
    Setting("threads", SOME, "tables at once", 1, flags=("--threads",)),
    Setting("worker_num", COUNT, "this process is worker N of --workers", 0, flags=("--worker-num",)),
    Setting("workers", COUNT, "how many workers share the work", 1, flags=("--workers",)),
    Setting("retain", DURATION, "how long committed data are kept", None, "none: for ever", flags=("--retain",)),
    Setting(
        "cache_ttl",
        DURATION,
        "service: how long what discover_tbls() and @cached methods found is used again",
        60.0,
        flags=("--cache-ttl",),
    ),
)

PARTS = (
    Setting("data_buffer_cls", CLASS, "format of the data: parquet, jsonl, or a class", "parquet", flags=("--data-buffer-cls",)),
    _cls("checkpoint_cls", "class that says in which form checkpoint values are kept, and copies them"),
    _cls(
        "task_store_cls",
        "where records of finished tasks go: HiveTaskStore, or a class",
        "ACHVY_TASK_METASTORE_CLASS",
        "ACHVY_TASK_METASTORE_CLS",
        default_text="$task_logs/ of the anchovy",
    ),
    _cls("tbl_store_cls", "class that copies what downstream anchovies see of tables", default_text="$tables/ of the anchovy"),
    _cls("result_store_cls", "class that keeps the results of sessions", default_text="$results/ of the anchovy"),
    _cls("session_cls", "class of what session() gives"),
    _cls("batch_cls", "class of what batch() gives"),
)

OUTPUT = (
    Setting("log_level", choice("debug", "info", "warning", "error"), "how much is told", "info", flags=("--log-level",)),
    Setting(
        "log_format",
        choice("text", "json"),
        "how it is told where there is no terminal, or on one: json is one object a line",
        "text",
        flags=("--log-format",),
    ),
    Setting("json", BOOL, "print the result as JSON, and nothing else on stdout", False, flags=("--json",)),
    Setting("no_progress", BOOL, "no live display, one line an event", False, flags=("--no-progress",)),
    Setting("log_rows", BOOL, "log the first rows of each table in a batch, as they are kept", False, flags=("--log-rows",)),
    Setting(
        "host", TEXT, "service: the address on which /healthz, /metrics and /status listen", None, "127.0.0.1", flags=("--host",)
    ),
    Setting(
        "port", COUNT, "service: the port on which /healthz, /metrics and /status listen; 0: off", None, "off", flags=("--port",)
    ),
)

DATASET = (
    _dataset("primary_length", 40, "", "sql: length of a key's text column, where a database needs one"),
    _dataset("default_length", 255, "", "sql: length of other text columns, where a database needs one"),
    _dataset("chunksize", None, "64 MiB of rows", "sql: rows a bulk load; -1: one stream"),
    _dataset("sample_size", None, "", "sql: rows sampled for discovery"),
    _dataset("data_retention_seconds", -1, "", "sql: how long expired rows are kept; -1: for ever"),
)

GROUPS = {"Identity": IDENTITY, "Running": RUN, "Parts": PARTS, "Output": OUTPUT, "sql plugin": DATASET}
SETTINGS: tuple[Setting, ...] = tuple(s for group in GROUPS.values() for s in group)
BY_NAME: Mapping[str, Setting] = {s.name: s for s in SETTINGS}
OTHER_VARIABLES = ("ACHVY_HOME", "ACHVY_MASK_KEY", "ACHVY_FAULT")
