"""YAML and JSON read safely: core schema, no aliases, tags or duplicate keys, bounded size and depth; a key knows its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import yaml

from anchovies.core.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,999})|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STR = "tag:yaml.org,2002:str"
Fill = Callable[[str], str]


class Node(dict[str, Any]):
    """A map of a document. `at(key)` says where the key stands: `config.yaml:3:5`."""

    name: str = "config"
    marks: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def at(self, key: str) -> str:
        line, column = self.marks.get(key, (0, 0))
        return f"{self.name}:{line}:{column}" if line else self.name


def place(map_: object, key: str, path: str) -> str:
    """`config.yaml:3:5: tbls.sales.path` where the place is known, else the path alone: how messages begin."""
    return f"{map_.at(key)}: {path}" if isinstance(map_, Node) and (map_.marks or map_.name != Node.name) else path


def parse_document(text: str, name: str, fill: Fill = str) -> Any:
    """The value of one YAML or JSON document; maps are `Node`s, and `fill` is applied to every text value.

    Raises ConfigError that names file, line and column.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{name}: longer than 1 MiB", hint="tables are described in it, rows do not belong there", file=name)
    if text.lstrip().startswith("{"):
        value = _json(text, name, fill)
        if value is not None:
            return value
    try:
        return _Builder(name, fill, yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as e:
        mark: Any = e.problem_mark or e.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = str(e.problem or e.context or "this is not YAML")
        hint = "indent with spaces: YAML takes no tabs" if "cannot start any token" in problem and "\t" in text else None
        raise ConfigError(f"{name}{at}: {problem}", hint=hint, file=name) from None
    except yaml.YAMLError as e:
        raise ConfigError(f"{name}: this is not YAML: {str(e).splitlines()[0]}", file=name) from None


class _Builder:
    """Builds values from parser events, so that nothing is composed or constructed that we did not look at."""

    def __init__(self, name: str, fill: Fill, events: Iterator[Any]) -> None:
        self.name = name
        self.fill = fill
        self.events = events

    def fail(self, event: Any, problem: str, hint: str | None = None) -> NoReturn:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        raise ConfigError(f"{self.name}:{line}:{column}: {problem}", hint=hint, file=self.name, line=line)

    def document(self) -> Any:
        next(self.events)  # start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events), 1)
        next(self.events)  # end of the document
        if not isinstance(after := next(self.events), yaml.StreamEndEvent):
            self.fail(after, "a second document; one is all there can be")
        return value

    def value(self, event: Any, depth: int) -> Any:
        self.check(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(item, depth + 1))
            return items
        return self.map(depth)

    def check(self, event: Any, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self.fail(event, "aliases and anchors (*name, &name) are not allowed", "write the value out where it is needed")
        if event.tag not in (None, "!", _STR):
            shown = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.fail(event, f"the tag {shown} is not allowed: nothing here is code", "write a plain text, number, list or map")
        if depth > MAX_DEPTH:
            self.fail(event, f"nested deeper than {MAX_DEPTH} levels")

    def map(self, depth: int) -> Node:
        node = Node()
        marks: dict[str, tuple[int, int]] = {}
        node.name, node.marks = self.name, marks
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.check(event, depth)
                self.fail(event, "a key must be a text")
            self.check(event, depth)
            if event.value in node:
                first = marks[event.value][0]
                self.fail(event, f"the key {event.value!r} stands here twice (first in line {first})", "take one of them away")
            start: Any = event.start_mark
            marks[event.value] = (start.line + 1, start.column + 1)
            node[event.value] = self.value(next(self.events), depth + 1)
        return node

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style or event.tag is not None:
            return self.filled(event, text)
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text):
            return int(text, 0) if text[1:2] in ("o", "x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
        return self.filled(event, text)

    def filled(self, event: Any, text: str) -> str:
        try:
            return self.fill(text)
        except ConfigError as e:
            self.fail(event, e.message, e.hint)


def _json(text: str, name: str, fill: Fill) -> Any:
    """The JSON value, or None for what is no JSON (a YAML flow map, or a mistake the YAML parser will place)."""

    def pairs(items: list[tuple[str, Any]]) -> Node:
        node = Node(items)
        node.name = name
        if len(node) < len(items):
            keys = [k for k, _ in items]
            raise ConfigError(
                f"{name}: the key {next(k for k in keys if keys.count(k) > 1)!r} stands in one map twice", file=name
            )
        return node

    try:
        value = json.loads(text, object_pairs_hook=pairs)
        return _fill_in(value, fill, name, 1)
    except RecursionError:
        raise ConfigError(f"{name}: nested deeper than {MAX_DEPTH} levels", file=name) from None
    except ValueError:
        return None


def _fill_in(value: Any, fill: Fill, name: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{name}: nested deeper than {MAX_DEPTH} levels", file=name)
    if isinstance(value, Node):
        for key in value:
            value[key] = _fill_in(value[key], fill, name, depth + 1)
    elif isinstance(value, list):
        return [_fill_in(v, fill, name, depth + 1) for v in value]
    elif isinstance(value, str):
        return fill(value)
    return value
