"""Every fenced block of the README and of docs/ is run, in the order of the page, in one empty folder a page.

What a block is follows from its info string:

* ```` ```console ```` — lines after `$ ` are commands, what follows is what they print; `…` stands for anything.
  A command may end with an error; its exit code is not looked at, its text is.
* ```` ```bash ```` — commands that must succeed. `export` and `cd` last until the end of the page, as in a terminal.
* ```` ```python ````, ```` ```yaml ````, … with a first line `# file: NAME` (or `# ./NAME`) — is written to that file.
* ```` ```python ```` without one — is run; the next block, if it is ```` ```text ```` after `<!-- output -->`, is what it prints.
* anything else is not looked at. A block after `<!-- not run: reason -->` is not run; they are counted, with their reasons.

Addresses of the examples (`sftp.example.com`, `db.example.com`) become those of servers that are started for the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    p
    for p in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    if not p.is_relative_to(ROOT / "docs/reference")
)
FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<info>[\w-]+)[^\n]*\n(?P<body>.*?)^```$", re.M | re.S)
FILE = re.compile(r"(?:#|//) (?:file: |\./)(\S+)[^\n]*\n")
RUN = ("bash", "console", "python")


@dataclass(frozen=True)
class Block:
    """One fenced block: the comment before it, its language, its text, its line."""

    mark: str
    info: str
    body: str
    line: int

    @property
    def file(self) -> str | None:
        found = FILE.match(self.body)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(m["mark"] or "", m["info"], m["body"], text[: m.start("info")].count("\n") + 1) for m in FENCE.finditer(text)]


class Terminal:
    """A folder and an environment that last from block to block."""

    def __init__(self, folder: Path, replace: dict[str, str]) -> None:
        self.folder = folder
        self.replace = replace
        (folder / "home").mkdir()
        (folder / "page").mkdir()
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "COLUMNS": "110",
            "LOGNAME": "me",
            "USER": "me",
        }
        self.run(f"cd {folder / 'page'}")

    def real(self, text: str) -> str:
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return text

    def run(self, script: str) -> tuple[int, str]:
        """The script's exit code and output; what it exported and where it went are kept."""
        state = self.folder / "state"
        before = f"[ ! -e {state} ] || . {state}\n"
        after = f'trap \'{{ export -p; echo "cd \\"$PWD\\""; }} > {state}\' EXIT\n'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", before + after + self.real(script)],
            env=self.env, cwd=self.folder / "page", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
        )  # fmt: skip
        return done.returncode, done.stdout

    def write(self, name: str, text: str) -> None:
        path = self.folder / "page" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.real(text))


def matches(expected: str, got: str) -> bool:
    """Whether `got` is `expected`, where `…` stands for anything and blanks at line ends for nothing."""
    want, have = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (expected, got))
    return re.fullmatch("(?s:.*?)".join(map(re.escape, want.split("…"))), have) is not None


def commands(body: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block; a command goes on after a backslash."""
    out: list[tuple[str, str]] = []
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            out.append((line[2:], ""))
        elif out and out[-1][0].endswith("\\\n") and not out[-1][1]:
            out[-1] = (out[-1][0] + line.removeprefix("> "), "")
        else:
            assert out, "a console block begins with a `$ ` command"
            out[-1] = (out[-1][0], out[-1][1] + line)
    return out


def play(terminal: Terminal, block: Block, following: Block | None) -> None:
    if block.file:
        terminal.write(block.file, block.body)
    elif block.info == "bash":
        code, got = terminal.run(block.body)
        assert code == 0, f"line {block.line}: exit code {code}\n{got}"
    elif block.info == "console":
        for command, expected in commands(block.body):
            _, got = terminal.run(command)
            assert matches(expected, got), f"line {block.line}: $ {command}--- the page says\n{expected}--- it printed\n{got}"
    elif block.info == "python":
        terminal.write("_snippet.py", block.body)
        code, got = terminal.run("python _snippet.py")
        assert code == 0, f"line {block.line}: exit code {code}\n{got}"
        if following is not None and following.mark == "output":
            assert matches(following.body, got), f"line {block.line}:\n--- the page says\n{following.body}--- it printed\n{got}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    replace = {}
    for word, fixture in (("sftp.example.com", "addresses"), ("db.example.com", "database")):
        if word in page.read_text():
            replace |= request.getfixturevalue(fixture)
    terminal = Terminal(tmp_path, replace)
    if page.is_relative_to(ROOT / "examples"):  # an example's page lies beside its files
        for sibling in page.parent.glob("*.py"):
            terminal.write(sibling.name, sibling.read_text())
    found = blocks(page)
    for block, following in zip_longest(found, found[1:]):
        if not block.mark.startswith("not run:") and (block.info in RUN or block.file):
            play(terminal, block, following)


def test_a_block_that_is_not_run_says_why(notes: list[str]) -> None:
    marks = [(p.relative_to(ROOT), b) for p in PAGES for b in blocks(p) if b.mark.startswith("not run")]
    assert all(b.mark.removeprefix("not run:").strip() for _, b in marks)
    notes.append(f"{len(marks)} snippets are not run: " + "; ".join(f"{p}:{b.line} ({b.mark[8:].strip()})" for p, b in marks))


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("a …\n", "a b c", True),
        ("a\n…\nz", "a\nq\nr\nz\n", True),
        ("a b", "a c", False),
        ("x", "x\ny", False),
        ("", "noise", False),
    ],
)
def test_matches(expected: str, got: str, same: bool) -> None:
    assert matches(expected, got) is same
