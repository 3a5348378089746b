"""What every test stands on: a clean environment, a home of its own, seeds that are printed, skips that CI does not forgive."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from anchovies.testing.processes import Hatchery
from anchovies.testing.testbed import MODULES

ROOT = Path(__file__).resolve().parent.parent
OURS = ("ACHVY_", "ANCHY_", "ACHY_", "DATASET_", "XDG_")

#: CI's stages, first match wins: (stage, pattern of the path below tests/). What nothing matches belongs to `engine`.
STAGES = [
    ("unit", r"^(unit|architecture)/"),
    ("docs", r"^(docs|examples)/|^acceptance/main_job/test_flights"),  # the main job, as `make demo` beside it
    ("simulation", r"^sim/|kill_points"),
    ("storms", r"sql_storm"),
    ("kills", r"kill|double|chaos|crash"),
    ("engine", r"bucket_(wire\.|away)"),  # what breaks between an engine and its bucket; `stores` has no room for it
    ("stores", r"^conformance/.*(store|buffer|log|file)|^integration/.*store"),
    ("sql", r"sql|duckdb|postgres|uploader|target|scd"),
    ("engine", r""),
]

settings.register_profile("default", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("anchovies")
    group.addoption("--no-skips", action="store_true", help="a skipped test fails the run")
    group.addoption("--stage", choices=sorted({s for s, _ in STAGES}), help="only the tests of this stage of .ci/run")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything of ours is imported: no variable of the user's shell, and no file of theirs, reaches a test."""
    for name in [n for n in os.environ if n.startswith(OURS)]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="anchovies-home-")
    config.stash[HOME] = home
    config.stash[NOTES] = []
    os.environ["HOME"] = home


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


HOME = pytest.StashKey[str]()
NOTES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def notes(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed at the end of the run, whatever its outcome."""
    return pytestconfig.stash[NOTES]


@pytest.fixture
def seed(request: pytest.FixtureRequest, notes: list[str]) -> int:
    """Of every random choice of a test; printed, and set again by ANCHOVIES_SEED."""
    found = int(os.environ.get("ANCHOVIES_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ANCHOVIES_SEED={found}")
    notes.append(f"{request.node.name}: ANCHOVIES_SEED={found}")
    return found


@pytest.fixture(scope="session")
def hatchery() -> Iterator[Hatchery]:
    """Forks runs from a process that has loaded what they need."""
    made = Hatchery(MODULES)
    yield made
    made.close()


def stage_of(path: Path) -> str:
    """The one stage of `.ci/run` that runs the tests of this file."""
    inside = path.resolve().relative_to(ROOT / "tests").as_posix()
    return next(stage for stage, pattern in STAGES if re.search(pattern, inside))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--stage")
    if wanted:
        out = [i for i in items if _stage(i) != wanted]
        config.hook.pytest_deselected(items=out)
        items[:] = [i for i in items if _stage(i) == wanted]


def _stage(item: pytest.Item) -> str:
    said = item.get_closest_marker("stage")
    return str(said.args[0]) if said else stage_of(item.path)


class _Skips:
    """Counts what was skipped, wherever it was: a test, or a whole module at collection."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def _see(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self.found.append(f"{report.nodeid}: {reason}")

    pytest_runtest_logreport = _see
    pytest_collectreport = _see


_skips = _Skips()


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--no-skips"):
        session.config.pluginmanager.register(_skips, "anchovies-skips")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _skips.found and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seed = getattr(config.option, "randomly_seed", None)
    terminalreporter.write_line(f"random seed {seed}; the same order again: --randomly-seed={seed}")
    for line in config.stash.get(NOTES, []):
        terminalreporter.write_line(line)
    if _skips.found:
        terminalreporter.section("--no-skips: these were skipped, so this run failed")
        for line in _skips.found:
            terminalreporter.write_line(line)
