"""The one reader of the environment and of `.env`: variables, connections, and the redactor that knows every secret."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from anchovies.core.errors import ConfigError
from anchovies.core.faultpoint import VARIABLE, arm
from anchovies.core.secret import Secret

CNXN = "ACHVY_CNXN__"
MISPRINTS = ("ANCHY_CNXN__", "ACHY_CNXN__")  # printed so in the original readme, so people have them
_SCHEMAS = f"{CNXN}SCHEMAS__"
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
_LONG_ENOUGH = 8
MOST_SECRET = 64 << 10  # bytes of a `…_FILE`
_SECRET_KEY = re.compile(r"pass|pwd|token|secret|key|sig|auth|cred", re.IGNORECASE)
# attributes that are no secrets and that messages must be able to name
_OPEN = frozenset((
    "ppk_path", "path", "known_hosts", "host_key", "timeout", "host", "hostname", "port", "user", "username", "schema",
    "database", "dbname", "region", "bucket", "page_size", "account", "account_name", "endpoint", "endpoint_url", "tenant",
    "tenant_id", "client_id",
))  # fmt: skip
# what the clouds' own libraries take from the environment, so that we must not tell it either
_CLOUD = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BEARER_TOKEN",
)  # fmt: skip

Connections = dict[str, dict[str, Secret]]


class Environment(Mapping[str, str]):
    """Variables, the real ones first and those of `.env` behind them. Its `repr` shows names only."""

    def __init__(self, real: Mapping[str, str], dotenv: Mapping[str, str] | None = None, path: str = ".env") -> None:
        self._values = {**(dotenv or {}), **real}
        self._from_file = frozenset(dotenv or {}) - frozenset(real)
        self.path = path

    def from_file(self, name: str) -> bool:
        """Whether the value of `name` is that of `.env`."""
        return name in self._from_file

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Environment of {len(self)} variables>"


def read_environment(folder: str = ".") -> Environment:
    """The process's variables and those of `<folder>/.env`. Raises ConfigError for a `.env` that cannot be read."""
    if VARIABLE in os.environ:  # the real one: no file that lies about arms anything
        arm(os.environ[VARIABLE])
    path = Path(folder, ".env")
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: {getattr(e, 'strerror', None) or 'it is not UTF-8'}") from None
    return Environment(dict(os.environ), parse_dotenv(text, str(path)), str(path))


def parse_dotenv(text: str, name: str = ".env") -> dict[str, str]:
    """`NAME=value` lines, `export` allowed, `#` comments, single or double quotes.

    Raises ConfigError naming the line, never its text.
    """
    found = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        m = _LINE.match(line)
        if m is None:
            raise ConfigError(f"{name}:{number}: expected NAME=value", file=name, line=number)
        found[m[1]] = _unquote_value(m[2], name, number)
    return found


def _unquote_value(text: str, name: str, number: int) -> str:
    mark = text[:1]
    if mark not in ("'", '"'):
        return re.sub(r"\s+#.*$", "", text)
    end = re.match(r"'([^']*)'\s*(?:#.*)?$" if mark == "'" else r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$', text)
    if end is None:
        raise ConfigError(f"{name}:{number}: a quote is not closed", file=name, line=number)
    return end[1] if mark == "'" else re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), end[1])


def connections_from(env: Mapping[str, str]) -> Connections:
    """Connection id → attribute (both lower case) → value. `default` is the connection without an id.

    Raises ConfigError for JSONDATA that is no JSON object, for a `…_FILE` that cannot be read, and for an attribute given twice.
    """
    found: Connections = {}
    for variable in sorted(env):
        if (rest := _connection_part(variable)) is None:
            continue
        if rest.upper().endswith("__FILE") and rest.count("__") > 1:
            rest = rest[: -len("__FILE")] + "_FILE"  # …__DB__PASSWORD__FILE, as others write it
        id, _, attribute = rest.rpartition("__") if rest.count("__") else ("default", "", rest)
        if not id or not attribute:
            raise ConfigError(f"{variable}: expected {CNXN}<ID>__<ATTRIBUTE> or {CNXN}<ATTRIBUTE>")
        into = found.setdefault(id.lower(), {})
        for name, value in _attributes(variable, attribute.lower(), env[variable]):
            if name in into and into[name] != value:
                raise ConfigError(f"{variable}: {name!r} of the connection {id.lower()!r} is set by another variable as well")
            into[name] = value
    return found


def _connection_part(variable: str) -> str | None:
    """What stands behind the prefix, for variables that belong to a connection."""
    if variable.startswith(_SCHEMAS):
        return None
    prefix = next((p for p in (CNXN, *MISPRINTS) if variable.startswith(p)), None)
    return variable[len(prefix) :] if prefix else None


def _attributes(variable: str, name: str, text: str) -> Iterable[tuple[str, Secret]]:
    if name.endswith("_file"):
        name, text = name.removesuffix("_file"), _read_secret(variable, text)
    if name != "jsondata":
        return [(name, Secret(text))]
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ConfigError(f"{variable}: expected a JSON object of attributes")
    return [(k.lower(), Secret(_as_text(v))) for k, v in data.items() if v is not None]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read_secret(variable: str, path: str) -> str:
    """What the file holds, but for one newline at its end. Raises ConfigError that names both, and never shows the content."""
    try:
        file = Path(path).expanduser()
        if file.exists() and not file.is_file():
            raise ConfigError(f"{variable}: {path}: it is no regular file")  # a pipe can be read once only, and may hang
        with file.open("rb") as f:
            data = f.read(MOST_SECRET + 1)
        text = data[:MOST_SECRET].decode("utf-8", "ignore" if len(data) > MOST_SECRET else "strict")
    except (OSError, ValueError, RuntimeError) as e:
        why = getattr(e, "strerror", None) or ("it is not UTF-8" if isinstance(e, UnicodeDecodeError) else "it is no path")
        raise ConfigError(
            f"{variable}: {path}: {why}", hint="the variable holds the path of a file that holds the secret"
        ) from None
    if len(data) > MOST_SECRET:
        raise ConfigError(f"{variable}: {path}: it has more than {MOST_SECRET >> 10} KiB, so it is no secret")
    return text.removesuffix("\n").removesuffix("\r")


def schemas_from(env: Mapping[str, str]) -> dict[str, str]:
    """`ACHVY_CNXN__SCHEMAS__<ID>=name` → `{"ID": "name"}`; ids as they stand in the variable."""
    return {v[len(_SCHEMAS) :]: env[v] for v in env if v.startswith(_SCHEMAS) and env[v]}


class Redactor:
    """Masks every secret it knows in any text: the last line of defence, for whatever is printed, logged or stored.

    It knows the values of connections (8 characters and more; of URLs the passwords only), in the forms in which they leak: as
    they are, quoted for a URL, in base64, escaped for JSON.
    """

    def __init__(self, secrets: Iterable[str | Secret] = ()) -> None:
        plain = {p for s in secrets for p in _parts(Secret(s).reveal())}
        forms = sorted({f for p in plain for f in _forms(p)}, key=lambda f: (-len(f), f))
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Redactor:
        """Everything secret that `env` holds. Never raises: what is broken is masked as it stands."""
        try:
            found = connections_from(env)
        except ConfigError:  # it is reported where the connections are built
            return cls([env[v] for v in env if _connection_part(v) is not None])
        secrets: list[str | Secret] = [s for a in found.values() for name, s in a.items() if name not in _OPEN]
        return cls([*secrets, *(env.get(v, "") for v in ("ACHVY_MASK_KEY", *_CLOUD))])

    @classmethod
    def current(cls) -> Redactor:
        """That of this process's environment and `.env`. Never raises."""
        try:
            return cls.of(read_environment())
        except ConfigError:
            return cls.of(os.environ)

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text

    def deep(self, value: Any) -> Any:
        """`value` with every text in it masked, through maps and lists."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {k: self.deep(v) for k, v in value.items()}
        return [self.deep(v) for v in value] if isinstance(value, list) else value


def _parts(value: str) -> Iterator[str]:
    """The value itself; of a URL only what is secret in it, so that hosts and paths stay readable."""
    scheme, mark, rest = value.partition("://")
    if not mark or not scheme.isascii() or not scheme.replace("+", "").isalnum():
        yield value
        return
    user, colon, password = rest.rpartition("@")[0].partition(":")  # by hand: people write '/', '#' and '@' in passwords
    found = [password] if colon else [user] if scheme in ("http", "https") else []
    found += [v for k, v in parse_qsl(rest.partition("?")[2]) if _SECRET_KEY.search(k)]
    for text in found:
        yield text
        yield unquote(text)


def _forms(value: str) -> Iterator[str]:
    if len(value) < _LONG_ENOUGH:
        return
    yield value
    yield quote(value, safe="")
    yield quote_plus(value)
    yield json.dumps(value)[1:-1]
    raw = value.encode("utf-8", "surrogateescape")
    for before in range(3):  # `Basic` has user:password in base64, so the value may begin anywhere in a group of three bytes
        coded = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        yield coded[4 if before else 0 : -1 if (before + len(raw)) % 3 else None]
