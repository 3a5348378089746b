"""A matrix of fault points and actions: each case a copy of a prepared folder, one process that is killed, failed or held up
there, and undisturbed ones afterwards that must make everything right."""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import anchovies
from anchovies.store.faultpoints import POINTS
from anchovies.store.local import TMP, LocalStore
from anchovies.testing.processes import Hatchery
from anchovies.testing.testbed import SCHEMA, World

N = 14
#: What is executed before the command line, or alone.
ENTRY = "import sys\nsys.path.insert(0, '')\n"
MAIN = "\nfrom anchovies.cli.main import main\nmain()\n"


#: What the configuration of an operator is called.
CONFIGS = {"./oracle.py:Ints": "tables.yaml", "files.CsvDownloader": "files.yaml", "sql.Downloader": "shop.yaml"}
WORKERS = 2


@dataclass
class Place:
    """A folder with a datastore and a database, and the processes that are run there."""

    world: World
    hatchery: Hatchery
    kind: str = "sqlite"
    runs: Iterator[int] = field(default_factory=itertools.count)

    @property
    def folder(self) -> Path:
        return self.world.folder

    def run(self, *args: str, fault: str = "", code: str = "", n: int = N) -> tuple[int, str]:
        """(exit code, what it said)."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
        env |= {"ACHVY_HOME": str(self.world.root), "ORACLE_N": str(n), "ORACLE_TASK": str(n), "ACHVY_FAULT": fault}
        env |= {"ACHVY_CNXN__DB__URL": self.world.urls[self.kind], "ACHVY_CNXN__PATH": str(self.folder / "inbox")}
        env["PYTHONPATH"] = str(self.folder)
        out = self.folder / f"run{next(self.runs)}.out"
        full = [*args, "--user", "t", "--json"] if args else []
        run = self.hatchery.start(full, f"{ENTRY}{code}{MAIN if args else ''}", self.folder, env, out)
        return run.wait(), run.said

    def download(self, *args: str, operator: str = "./oracle.py:Ints", **more: Any) -> tuple[int, str]:
        config = CONFIGS.get(operator)
        which = ["-op", operator, "-i", "oracle", *(("--config-file", config) if config else ())]
        small = () if operator.endswith("Ledgered") else ("--commit-bytes", "1")
        return self.run("start", *which, *small, *args, **more)

    def upload(self, *upstreams: str, **more: Any) -> tuple[int, str]:
        names = [x for u in upstreams or ("oracle",) for x in ("-U", u)]
        return self.run("start", "-op", "sql.Uploader", "-i", f"to_{self.kind}", *names, **more)

    def settled(self, act: Callable[[], tuple[int, str]]) -> None:
        """Undisturbed runs until one says that it was not kept out by what is still dying."""
        for _ in range(10):
            code, said = act()
            assert code == 0, said
            if '"skipped"' not in said:
                break
        store = LocalStore(str(self.world.root))
        store.sweep()
        assert not (self.world.root / TMP).exists() or os.listdir(self.world.root / TMP) == []

    def numbers(self, table: str = "ints") -> list[int]:
        return [i for i, _ in self.world.logged().get(table, [])]


@dataclass(frozen=True)
class Scenario:
    """`prepare`d once and copied (or anew each time: `fresh`), `act`ed with a fault, then acted again until it is `right`."""

    name: str
    act: Callable[[Place, str], tuple[int, str]]
    right: Callable[[Place], None]
    prepare: Callable[[Place], object] = lambda place: None
    then: Callable[[Place], object] = lambda place: None  # in every copy
    fresh: bool = False
    kind: str = "sqlite"
    always: tuple[str, ...] = ()  # beginnings of points that are hit here even if they were elsewhere


class Matrix:
    """Runs cases, several at once, each in a folder of its own."""

    def __init__(self, folder: Path, hatchery: Hatchery, url: str = "", files: Mapping[str, str] | None = None) -> None:
        self._folder, self._hatchery, self._url, self._files = folder, hatchery, url, dict(files or {})
        self._numbers = itertools.count()
        self._turn, self._server, self._making = threading.Lock(), threading.Lock(), threading.Lock()
        self._templates: dict[str, tuple[threading.Lock, Path]] = {}
        self._free = BoundedSemaphore(WORKERS)
        self.pool = ThreadPoolExecutor(WORKERS)
        self.hit: dict[str, set[str]] = {"kill": set(), "raise": set(), "stall": set()}
        self.cases = 0
        self.seconds: dict[str, float] = {}

    def close(self) -> None:
        self.pool.shutdown()

    @contextmanager
    def place(self, scenario: Scenario) -> Iterator[Place]:
        with self._turn:
            number = next(self._numbers)
        folder = self._folder / f"case{number}"
        lock = self._server if scenario.kind == "postgres" else threading.Lock()  # one schema there
        try:
            with self._free, lock:
                if scenario.kind == "postgres":
                    self._empty()
                if not scenario.fresh:
                    shutil.copytree(self._template(scenario), folder)
                place = self._at(folder, scenario)
                if scenario.fresh:
                    scenario.prepare(place)
                scenario.then(place)
                yield place
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _at(self, folder: Path, scenario: Scenario) -> Place:
        folder.mkdir(exist_ok=True)
        urls = {"sqlite": f"sqlite:///{folder}/x.sqlite", "duckdb": f"duckdb:///{folder}/x.duckdb", "postgres": self._url}
        for name, text in self._files.items():
            (folder / name).write_text(text)
        return Place(World(folder, 0, urls), self._hatchery, scenario.kind)

    def _template(self, scenario: Scenario) -> Path:
        with self._making:
            new = threading.Lock(), self._folder / f"template-{scenario.name}"
            lock, folder = self._templates.setdefault(scenario.name, new)
        with lock:
            if not folder.exists():
                scenario.prepare(self._at(folder, scenario))
        return folder

    def _empty(self) -> None:
        with import_module("psycopg").connect(self._url, autocommit=True) as pg:
            pg.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")

    def points(self, scenario: Scenario) -> Counter[str]:
        """How often an undisturbed run comes to each point."""
        with self.place(scenario) as place:
            code, said = scenario.act(place, "*:trace@0")
            assert code == 0, said
            return Counter(line.split()[2][:-1] for line in said.splitlines() if line.startswith("fault point "))

    def case(self, scenario: Scenario, points: list[str], action: str, nth: int = 1) -> str | None:
        """What is wrong after `action` at `points`; None: nothing."""
        told = f"{scenario.name}: {action}@{nth} at {', '.join(points)}"
        began = time.monotonic()
        try:
            with self.place(scenario) as place:
                code, said = scenario.act(place, ",".join(f"{p}:{action}@{nth}" for p in points))
                for point in points:
                    assert f"fault point {point}: {action}\n" in said, f"{point} was not hit (exit {code}): {said}"
                want = {"kill": {-signal.SIGKILL}, "raise": {0, 1}, "stall": {0}}[action]
                assert code in want, f"exit {code}: {said}"
                assert "Traceback" not in said or scenario.name == "maintain", said
                scenario.right(place)
        except Exception as e:
            return f"{told}: {type(e).__name__}: {str(e)[-1500:]}"
        with self._turn:
            self.cases += 1
            self.seconds[scenario.name] = self.seconds.get(scenario.name, 0) + time.monotonic() - began
            self.hit[action].update(points)
        return None


def run_cases(matrix: Matrix, cases: list[tuple[Scenario, list[str], str, int]]) -> list[str]:
    futures = [matrix.pool.submit(matrix.case, *case) for case in cases]
    return [wrong for f in futures if (wrong := f.result())]


def registered() -> set[str]:
    """Every point that the code has."""
    found = set(POINTS)
    for path in Path(anchovies.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "fault" and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found
