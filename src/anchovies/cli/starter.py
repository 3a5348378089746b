"""What `anchovy init` writes: the texts of a project and of a plugin."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anchovies.core import registry
from anchovies.core.errors import ConfigError
from anchovies.core.plugininfo import find_plugin
from anchovies.sdk.connection import Connection
from anchovies.sdk.operator import Operator, Uploader

Files = dict[str, str]
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9_]")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"[a-z][a-z0-9_]*")


def check_project(name: str) -> str:
    """The id of an anchovy, as it stays in every path. Raises ConfigError with the reason."""
    if not _ID.fullmatch(name) or len(name) > 100:
        reason = "is too long" if len(name) > 100 else "is not made of lower-case letters, digits, '_', '-' and '.'"
        raise ConfigError(
            f"the name {name!r} {reason}", hint="it becomes the anchovy's id, and a folder: sales_sftp, shop-orders"
        )
    return name


def check_plugin(name: str) -> str:
    """The name of a plugin, which is a module. Raises ConfigError with the reason."""
    if not _MODULE.fullmatch(name):
        raise ConfigError(
            f"the name {name!r} is not that of a module: lower-case letters, digits and '_', a letter first", hint="my_shop"
        )
    if keyword.iskeyword(name):
        raise ConfigError(f"the name {name!r} is a word of Python", hint="my_shop")
    if name in registry.LATER:
        raise ConfigError(f"the name {name!r} is kept for a plugin of anchovies itself", hint=f"my_{name}")
    if (known := find_plugin(name)) is not None:
        raise ConfigError(f"there is a plugin {name!r} already: {known.path or known.module}", hint=f"my_{name}")
    return name


# a project


@dataclass(frozen=True)
class Project:
    """Its files, the variables that have to be set, and whether it follows an upstream."""

    files: Files
    required: list[str]
    follows: bool


def project(name: str, operator: str, guessed: Sequence[Any] = ()) -> Project:
    """A `config.yaml` for that operator, with the tables that were guessed. Raises ConfigError for one that is not there."""
    cls = registry.resolve_operator(operator)
    assert issubclass(cls, Operator)
    attributes = list(_attributes(cls))
    required = [variable for variable, _, needed in attributes if needed]
    lines = [
        f"# The anchovy {name}: what it runs, and its tables. `anchovy config` shows every setting and where it came from.",
        "config:",
        f"  id: {name}",
        f"  operator_cls: {operator}  # `anchovy plugin` lists what there is",
        *(["  upstream: [name_of_a_downloader]  # whose rows are loaded"] if issubclass(cls, Uploader) else []),
        "  # datastore: /srv/anchovies  # where everything is kept; default: ~/.anchovies",
        "",
        *_connections(attributes),
        *(_guessed(guessed) if guessed else _tables(name, cls)),
    ]
    return Project({"config.yaml": "\n".join(lines).rstrip() + "\n"}, required, issubclass(cls, Uploader))


def _attributes(cls: type[Operator]) -> Iterator[tuple[str, str, bool]]:
    """(variable, what it is for, whether it is required) of everything that its connections take."""
    for cnxn_id, connection in cls.connection_classes().items():
        if isinstance(connection, type) and issubclass(connection, Connection):
            head = "ACHVY_CNXN__" + ("" if cnxn_id == "default" else f"{cnxn_id.upper()}__")
            for attribute, (_, spec) in connection.attributes().items():
                yield head + attribute.upper(), spec.help, bool(spec.required)


def _connections(attributes: Sequence[tuple[str, str, bool]]) -> list[str]:
    if not attributes:
        return []
    width = max(len(variable) for variable, _, _ in attributes)
    said = [
        f"#   {variable:<{width}}  {help_}{' (required)' if needed else ''}".rstrip() for variable, help_, needed in attributes
    ]
    return ["# What it connects to is said by variables, in the environment or in a file .env that stays out of git:", *said, ""]


def _tables(name: str, cls: type[Operator]) -> list[str]:
    properties = cls.tbl_properties
    if "path" not in properties:
        return ["# tbls:  # what is said of a table here wins over what the operator says", "#   orders:", *_keys("#     ")]
    table = _NOT_OF_A_NAME.sub("_", name)
    rest = [f"    # {key}: {' '.join(text.split())}" for key, text in properties.items() if key != "path"]
    return ["tbls:", f"  {table}:", f'    path: "*.csv"  # {properties["path"]}', *_keys("    # "), *rest]


def _guessed(tables: Sequence[Any]) -> list[str]:
    """Tables that were looked at: their properties, their columns as they look, and what may be their key."""
    lines = [
        "# Guessed by a look at the first rows. `autodiscover: true` finds types without loss; `columns:` fixes them.",
        "tbls:",
    ]
    for table in tables:
        lines.append(f"  {_scalar(table.name)}:")
        lines += [f"    {key}: {_scalar(value)}" for key, value in table.properties.items()]
        lines += [f"    # unique_by: {_scalar(key)}  # another value in each row that was read" for key in table.keys[:1]]
        columns = ", ".join(f"{_scalar(column)}: {_scalar(type_)}" for column, type_ in table.columns.items())
        lines += [f"    # columns: {{{columns}}}", ""]
    return lines


def _scalar(value: Any) -> str:
    """A value as YAML has it: a text is plain where nothing in it is special."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null")
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _keys(margin: str) -> list[str]:
    return [
        f"{margin}unique_by: id            # what makes a row unique",
        f"{margin}sort_by: -updated_at     # of several rows with one key, the first in this order wins: here the newest",
        f"{margin}columns: {{id: int}}       # types, where text is not enough; `autodiscover: true` finds them",
    ]


# a plugin


def plugin(name: str) -> Files:
    """A module with a connection and a downloader, and its test."""
    fill = {"@name@": name, "@Name@": camel(name)}
    return {f"anchovies/plugins/{name}.py": _filled(_PLUGIN, fill), f"tests/test_{name}.py": _filled(_TEST, fill)}


def camel(name: str) -> str:
    """`my_shop` as the beginning of a class's name."""
    return "".join(part.capitalize() for part in name.split("_"))


def _filled(text: str, fill: Mapping[str, str]) -> str:
    for old, new in fill.items():
        text = text.replace(old, new)
    return text


_PLUGIN = '''"""Downloads items from @name@."""

from anchovies.sdk import Connection, Downloader, Secret, attr, context, source

PLUGIN = {
    "summary": "Items from @name@",
    "requires": [],  # modules that must be installed: `anchovy plugin` says how, where they are not
    "operators": {"@Name@Downloader": "brings every item once"},
    "connections": {"@Name@Connection": "where the items are"},
}

#: stands for the system that you want to read
ITEMS = [{"id": n, "name": f"item {n}"} for n in range(1, 251)]


class @Name@Connection(Connection):
    """Each attribute is a variable: ACHVY_CNXN__TOKEN, ACHVY_CNXN__PAGE_SIZE. Override open() and close() to connect."""

    token: Secret | None = attr("how to get in", default=None)
    page_size: int = attr("items a page", default=100)

    def items(self, after):
        """One page of the items behind `after`. Here yours asks its system."""
        return [item for item in ITEMS if item["id"] > after][: self.page_size]


class @Name@Downloader(Downloader):
    connection_cls = @Name@Connection

    @source("items")
    def items(self):
        last = context().checkpoint("last item")
        while page := self.cnxn.items(after=last.get(0)):
            yield page
            last.set(page[-1]["id"])  # committed together with the rows before it
'''

_TEST = '''"""Run it with pytest; `pytest --anchovy-chaos` ends the downloader at every place instead of a few."""

from pathlib import Path

import anchovies

anchovies.add_plugin_path(str(Path(__file__).parent.parent))  # the folder that anchovies/plugins/@name@.py lies in

from anchovies.plugins.@name@ import @Name@Connection, @Name@Downloader  # noqa: E402
from anchovies.testing.downloader import DownloaderSuite  # noqa: E402
from anchovies.testing.trial import Subject  # noqa: E402


class Test@Name@(DownloaderSuite):
    """What every downloader promises: nothing lost, nothing twice, whenever it ends."""

    def make(self, folder):
        items = [{"id": n, "name": f"item {n}"} for n in range(1, 8)]

        class Fake(@Name@Connection):
            def items(self, after):
                return [item for item in items if item["id"] > after][: self.page_size]

        class Tested(@Name@Downloader):
            connection_cls = Fake

        return Subject(
            Tested,
            cnxns={"default": {"token": "a-secret-of-the-test", "page_size": 2}},
            grow=lambda: items.append({"id": 8, "name": "new"}),
        )


def test_a_page():
    connection = @Name@Connection(page_size=2)
    assert [item["id"] for item in connection.items(after=3)] == [4, 5]
'''
