"""The pytest plugin: `--anchovy-chaos` and the fixture `anchovy_chaos`. It comes with the package and loads nothing of it.

* `--anchovy-chaos`: end the operators under test at *every* request of their datastore and at *every* yield, in every way.
* `--anchovy-chaos-most N`: at most N places a way, spread evenly. Without `--anchovy-chaos`: 5.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

FEW = 5
SUITES = ("downloader", "uploader", "chaosruns", "uploads")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("anchovies", "operators of anchovies")
    text = "end operators under test at every request of their datastore and at every yield (default: at a few)"
    group.addoption("--anchovy-chaos", action="store_true", help=text)
    group.addoption("--anchovy-chaos-most", type=int, metavar="N", help="at most N places of each kind, spread evenly")


def pytest_configure(config: pytest.Config) -> None:
    pytest.register_assert_rewrite(*(f"anchovies.testing.{name}" for name in SUITES))


@pytest.fixture
def anchovy_chaos(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`anchovy_chaos(make)` runs what `make(folder)` gives again and again, ends it at one place after the other, and sees that
    the run after it makes everything right. See `anchovies.testing.chaosruns.ChaosRuns`."""
    every = request.config.getoption("--anchovy-chaos")
    most = request.config.getoption("--anchovy-chaos-most") or (None if every else FEW)
    found = import_module("anchovies.testing.chaosruns").ChaosRuns(most, every, tmp_path_factory.mktemp("chaos"))
    yield found
    found.close()
