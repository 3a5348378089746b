"""The graph of a batch: who serves what, what runs together, and what is refused before anything runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anchovies.core.config import config_from
from anchovies.core.errors import ConfigError
from anchovies.engine.graph import MOST_LINES, Graph, draw
from anchovies.engine.routes import Routes
from anchovies.engine.tables import plan_tables
from anchovies.sdk import Downloader, Operator, Tbl, on_task, sink, source


def operator(base: type = Downloader, discovered: tuple[str, ...] = (), **marks: Any) -> type:
    """A class whose methods carry these marks: one, or a list of several."""

    def marked(given: Any) -> Any:
        def method(self: Any, **kwds: Any) -> Any:
            return ()

        for mark in given if isinstance(given, list) else [given]:
            mark(method)
        return method

    body = {n: marked(m) if callable(m) or isinstance(m, list) else m for n, m in marks.items()}
    return type("Made", (base,), {**body, "discover_tbls": lambda self: [Tbl(n) for n in discovered]})


def graph(cls: type, enabled: Any = (), disabled: Any = (), tbls: Any = None) -> Graph:
    config = config_from({"tbls": {name: {} for name in tbls or ()}}, "test")
    settings: Any = SimpleNamespace(enabled=enabled, disabled=disabled)
    return plan_tables(cls(), Routes(cls), config, settings)


def said(found: Graph) -> dict[str, tuple[str | None, list[str], list[str]]]:
    """By table: its source, the chains that feed it, and who takes its rows."""
    return {t.name: (t.source, [f"{n.method}<{n.reads}" for n in t.feeders], [n.method for n in t.takers]) for t in found.tables}


def parts(found: Graph) -> list[tuple[list[str], list[str]]]:
    return [([t.name for t in p.roots], [t.name for t in p.tables]) for p in found.parts]


def test_every_rank_of_source_and_of_the_sinks_all_that_match() -> None:
    made = operator(
        exact=source("a1"),
        globbed=source("a*", "b?"),
        rest=source(),
        s1=sink("a1"),
        s2=sink("a*"),
        s3=sink(),
        s4=sink("zz", "a1"),
    )
    found = said(graph(made, tbls=["a2", "b3", "other", "zz"]))
    assert {t: x[0] for t, x in found.items()} == {"a1": "exact", "a2": "globbed", "b3": "globbed", "other": "rest", "zz": "rest"}
    assert found["a1"][2] == ["s1", "s2", "s3", "s4"]
    assert (found["a2"][2], found["other"][2], found["zz"][2]) == (["s2", "s3"], ["s3"], ["s3", "s4"])


@pytest.mark.parametrize("marks", [("t", "t"), ("t*", "*t"), ((), ())])
def test_two_sources_of_one_rank_are_refused_by_name(marks: tuple[Any, Any]) -> None:
    one, two = (source(*([m] if isinstance(m, str) else [])) for m in marks)
    with pytest.raises(ConfigError, match=r"'t' has two sources: Made.one and Made.two"):
        graph(operator(one=one, two=two), tbls=["t"])


def test_one_method_may_say_a_table_twice() -> None:
    assert said(graph(operator(one=[source("t"), source("t", "u")]))) == {"t": ("one", [], []), "u": ("one", [], [])}


def test_a_diamond_runs_each_node_once() -> None:
    made = operator(
        x=source("x"),
        y=[source("y"), sink("x")],
        z=[source("z"), sink("x")],
        w=[source("w"), sink("y", "z")],
        v=[source("v"), sink("w")],
    )
    found = graph(made)
    assert parts(found) == [(["x"], ["x", "y", "z", "w", "v"])]
    assert said(found)["w"] == (None, ["w<y", "w<z"], ["v"])
    assert [t.is_fan_in for t in found.tables] == [False, False, False, True, False]
    assert draw(found).splitlines() == [
        "x()",
        "└─▶ x  [kept]",
        "    ├─ y()",
        "    │  └─▶ y  [kept]",
        "    │      └─ w()",
        "    │         └─▶ w  [kept, fed by w() of y and w() of z]",
        "    │             └─ v()",
        "    │                └─▶ v  [kept]",
        "    └─ z()",
        "       └─▶ z  [kept]",
        "           └─ w()",
        "              └─▶ w  [see above]",
    ]


def test_what_is_not_needed_does_not_run() -> None:
    look = sink("x", "y")
    made = operator(x=source("x"), y=[source("y", "y2"), sink("x")], z=[source("z"), sink("x")], q=source("q"), look=look)
    found = graph(made, enabled=["y"])
    assert said(found) == {"x": ("x", [], ["y"]), "y": (None, ["y<x"], ["look"])}
    assert [(t.picked, t.kept, t.fed) for t in found.tables] == [(False, False, False), (True, True, True)]
    assert found.tables[0].takers[0].makes == ("y",)
    assert found.parts[0].fed == ("y",)
    every = graph(made, disabled=["q"])
    assert every.parts[0].fed == ("x", "y", "y2", "z")
    assert said(every)["x"][2] == ["y", "z", "look"]
    assert draw(every).splitlines()[2:5] == ["    ├─ y()", "    │  ├─▶ y  [kept]", "    │  │   └─ look()"]


def test_tables_that_meet_are_one_part() -> None:
    made = operator(
        a=source("a"), b=source("b"), c=source("c"), d=source("d"), own=source("ab"), ab=[source("ab"), sink("a", "b")],
        cc=[source("cc"), sink("c")],
    )  # fmt: skip
    found = graph(made)
    assert parts(found) == [(["a", "b", "ab"], ["a", "b", "ab"]), (["c"], ["c", "cc"]), (["d"], ["d"])]
    assert said(found)["ab"] == ("own", ["ab<a", "ab<b"], [])
    assert parts(graph(made, enabled=["b", "d"])) == [(["b"], ["b"]), (["d"], ["d"])]


def test_marks_flow_only_through_what_streams() -> None:
    made = operator(
        x=source("x"),
        y=[source("y"), sink("x", streaming=True)],
        z=[source("z"), sink("x")],
        w=[source("w"), sink("y", "z", streaming=True)],
    )
    found = graph(made)
    assert {t.name: t.flowing for t in found.tables} == {"x": True, "y": True, "z": False, "w": False}
    assert not found.parts[0].streams
    assert graph(made, enabled=["y"]).parts[0].streams


def test_chains_whose_marks_are_globs_or_say_nothing() -> None:
    audit = operator(a=source("a"), b=source("b"), audit=[source("audit"), sink()])
    assert said(graph(audit))["audit"] == (None, ["audit<a", "audit<b"], [])
    rest = operator(raw=source("raw"), rest=[source(), sink("raw")])
    assert said(graph(rest, tbls=["x", "y"])) == {
        "raw": ("raw", [], ["rest"]), "x": (None, ["rest<raw"], []), "y": (None, ["rest<raw"], [])
    }  # fmt: skip
    glob = operator(a=source("a"), part=[source("p_*"), sink("a")])
    assert said(graph(glob, tbls=["p_1"]))["p_1"] == (None, ["part<a"], [])
    lost = operator(a=source("a"), p_2=source("p_2"), part=[source("p_*"), sink("a")])
    assert said(graph(lost, tbls=["p_1", "p_2"]))["p_2"] == ("p_2", [], [])  # the exact name has it alone
    with pytest.raises(ConfigError, match="chain without any table name"):
        graph(operator(a=source("a"), all=[source(), sink()]))


def test_a_star_on_both_sides_stands_for_the_same_text() -> None:
    made = operator(raw=source("raw_*"), clean=[source("clean_*"), sink("raw_*")], best=[source("best_*"), sink("clean_*")])
    found = graph(made, tbls=["raw_a", "raw_b"])
    assert parts(found) == [
        (["raw_a"], ["raw_a", "clean_a", "best_a"]),
        (["raw_b"], ["raw_b", "clean_b", "best_b"]),
    ]
    assert list(graph(made, enabled=["clean_b"], tbls=["raw_a", "raw_b"]).active) == ["clean_b"]
    both = operator(raw=source("raw_*"), clean=[source("all"), source("clean_*"), sink("raw_*")])
    assert said(graph(both, tbls=["raw_a"]))["raw_a"][2] == ["clean"]
    with pytest.raises(ConfigError, match="without an end"):
        graph(operator(a=source("a"), x=[source("x*"), sink("*")], y=[source("y*"), sink("*")]))


def test_discovered_tables_are_routed_too() -> None:
    made = operator(discovered=("a", "b"), every=source(), a_lines=[source("a_lines"), sink("a")])
    assert parts(graph(made)) == [(["a"], ["a", "a_lines"]), (["b"], ["b"])]


def test_where_rows_go_without_the_default_sink() -> None:
    assert [t.kept for t in graph(operator(a=source("a"))).tables] == [True]
    assert [t.kept for t in graph(operator(Operator, a=source("a"))).tables] == [True]
    off = graph(operator(a=source("a"), default_sink=None))
    assert [(t.kept, t.takers, t.fed) for t in off.tables] == [(False, (), False)]
    own = graph(operator(a=source("a"), default_sink=sink()))
    assert [(t.kept, [n.method for n in t.takers], t.fed) for t in own.tables] == [(False, ["default_sink"], True)]
    inherited = graph(operator(operator(default_sink=None), a=source("a")))
    assert [t.kept for t in inherited.tables] == [False]
    unstored = graph(operator(a=source("a", store=False), b=[source("b"), sink("a")]))
    assert [t.kept for t in unstored.tables] == [False, True]
    with pytest.raises(ConfigError, match=r"'b': Made.c says store=False, b does not"):
        graph(operator(a=source("a"), b=[source("b"), sink("a")], c=[source("b", store=False), sink("a")]))


def test_a_circle_is_drawn() -> None:
    made = operator(r=source("r"), a=[source("a"), sink("r", "c")], b=[source("b"), sink("a")], c=[source("c"), sink("b")])
    with pytest.raises(ConfigError) as caught:
        graph(made)
    lines = caught.value.message.splitlines()
    assert lines[0].endswith("goes in a circle:")
    assert {line.strip(" └─").removesuffix("  (again)") for line in lines[2:]} == {"a ▶ a", "b ▶ b", "c ▶ c"}
    assert parts(graph(made, enabled=["r"])) == [(["r"], ["r"])]  # nothing of the circle is needed


DRAWN = "\n  a()\n  └─▶ a  [kept]"


@pytest.mark.parametrize(
    ("marks", "given", "message", "hint"),
    [
        ({"s": sink("aa")}, {}, r"@sink\('aa'\) of s: there is no table 'aa'", "did you mean 'a'?"),
        ({"b": [source("b"), sink("x")]}, {}, r"@sink\('x'\) of b: there is no table 'x'", "tables: a, b"),
        ({"h": on_task("tbl", tbl="x")}, {}, r"@on_task\('tbl', tbl='x'\) of h: there is no table 'x'", "tables: a"),
        ({}, {"enabled": ["q"]}, "-e/--enable 'q' matches no table", "tables: a"),
        ({}, {"disabled": ["q*"]}, r"-d/--disable 'q\*' matches no table", "tables: a"),
        ({}, {"tbls": ["q"]}, "'q' is configured, but no source serves it", "sources serve: a"),
    ],
)
def test_names_that_match_nothing_are_refused_with_the_graph(marks: Any, given: Any, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        graph(operator(a=source("a"), **marks), **given)
    assert DRAWN in caught.value.message
    assert caught.value.hint == hint


def test_a_long_graph_is_cut_in_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        graph(operator(every=source("t*")), tbls=[*(f"t{i}" for i in range(50)), "q"])
    assert len(caught.value.message.splitlines()) == MOST_LINES + 2
    assert caught.value.message.endswith("… and 70 lines more")


def test_no_tables_at_all() -> None:
    with pytest.raises(ConfigError, match="no tables to run"):
        graph(operator(every=source()))
