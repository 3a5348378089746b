"""What is shipped is what was tested: the wheel is built and opened."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    code = "import hatchling.build as b, sys; b.build_wheel(sys.argv[1]); b.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=True, capture_output=True, timeout=100)
    return out


def test_the_wheel_holds_every_module(dist: Path) -> None:
    names = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    ours = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src/anchovies").rglob("*.py")}
    assert ours <= names, f"not in the wheel: {sorted(ours - names)}"
    assert "anchovies/py.typed" in names


def test_the_wheel_brings_the_command_and_the_pytest_plugin(dist: Path) -> None:
    wheel = zipfile.ZipFile(next(dist.glob("*.whl")))
    text = wheel.read(next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))).decode()
    assert "[console_scripts]\nanchovy = anchovies.cli.main:main" in text
    assert "[pytest11]\nanchovies = anchovies.testing.pytest_plugin" in text


def test_the_wheel_keeps_plugins_a_namespace(dist: Path) -> None:
    names = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    assert "anchovies/plugins/__init__.py" not in names
    assert [n for n in names if n.startswith("anchovies/plugins/")], "the namespace folder is not in the wheel"


def test_the_wheel_holds_nothing_else(dist: Path) -> None:
    names = zipfile.ZipFile(next(dist.glob("*.whl"))).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"anchovies"}
    assert not [n for n in names if n.endswith((".pyc", ".env", ".parquet"))]


def test_the_source_distribution_builds_alone(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as tar:
        names = {n.partition("/")[2] for n in tar.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/anchovies/__init__.py"} <= names
    assert not [n for n in names if n.startswith((".venv", ".bench", ".demo"))]
