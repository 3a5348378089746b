"""`anchovy demo`: the whole road, offline: an SFTP server, a downloader, an uploader, a changed file, the second run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from anchovies.cli import say
from anchovies.core.env import read_environment
from anchovies.core.errors import AnchovyError, ConfigError
from anchovies.core.ids import SystemIds

NEEDS = ("asyncssh", "duckdb")
DATABASE = "warehouse.duckdb"
CONFIG = """\
tbls:
  sales:
    path: /sales/*.tsv
    columns: {order_num: int, line: int, item: str, amount: "decimal(10,2)", updated_at: datetime}
    unique_by: order_num, line
    sort_by: -updated_at
"""
HEAD = "order_num\tline\titem\tamount\tupdated_at\n"
MONDAY = """\
1001\t1\tanchovies, 1 kg\t18.50\t2026-03-02 09:00:00
1001\t2\tlemon\t0.80\t2026-03-02 09:00:00
1002\t1\tsardines, tin\t3.20\t2026-03-02 10:30:00
"""
TUESDAY = """\
1003\t1\tolive oil, 1 l\t11.90\t2026-03-03 08:15:00
1003\t2\tanchovies, 1 kg\t18.50\t2026-03-03 08:15:00
"""
CORRECTED = """\
1001\t1\tanchovies, 1 kg\t17.00\t2026-03-04 12:00:00
1001\t2\tlemon\t0.80\t2026-03-02 09:00:00
1002\t1\tsardines, tin\t3.20\t2026-03-02 10:30:00
"""
_STAMP = re.compile(r"^\S+Z INFO ")
HISTORY = "SELECT order_num, line, item, amount, updated_at, _seq, _del FROM {schema}.sales ORDER BY order_num, line, _seq"


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where to work; implies --keep.  [a temporary folder]")
@click.option("--keep", is_flag=True, help="Leave everything in ./anchovies-demo, to look around.")
def demo(folder: Path | None, keep: bool) -> None:
    """See the whole road in seconds, offline: SFTP files, the datastore, a DuckDB table with its history."""
    if missing := [n for n in NEEDS if find_spec(n) is None]:
        raise ConfigError(f"the demo needs {' and '.join(missing)}, which is not installed", hint="pip install 'anchovies[demo]'")
    with workspace(folder, keep) as at:
        Demo(at).run()
        _farewell(at, kept=keep or folder is not None)


@contextmanager
def workspace(folder: Path | None, keep: bool) -> Iterator[Path]:
    """An empty folder to work in; a temporary one goes away."""
    if folder is None and not keep:
        with tempfile.TemporaryDirectory(prefix="anchovies-demo-") as name:
            yield Path(name)
        return
    at = (folder or Path("anchovies-demo")).resolve()
    if at.exists() and any(at.iterdir()) and not (at / ".anchovies-demo").exists():
        raise ConfigError(f"{at} is not empty, and no demo made it", hint="name another folder: --dir PLACE")
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    (at / ".anchovies-demo").touch()
    yield at


class Demo:
    """The steps, in a folder: `sftp/` is what the server serves, `datastore/` is ours, `warehouse.duckdb` the database."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.password = SystemIds().nonce()
        self.env: dict[str, str] = {}

    def run(self) -> None:
        _title("An SFTP server with two files")
        (self.at / "sftp/sales").mkdir(parents=True)
        self._write("monday.tsv", MONDAY)
        self._write("tuesday.tsv", TUESDAY)
        (self.at / "config.yaml").write_text(CONFIG)
        say.out(_indent(CONFIG, "config.yaml"))
        with self._server() as (port, fingerprint):
            self._environment(port, fingerprint)
            self._first()
            self._second()
            self._third()

    def _first(self) -> None:
        _title("1. Download what is there, load it")
        self._download()
        self._upload()
        _title("2. A file changes: the first line of order 1001 now costs 17.00")
        self._write("monday.tsv", CORRECTED)
        say.out(f"  sftp/sales/monday.tsv  {CORRECTED.splitlines()[0]}".replace("\t", "  "))

    def _second(self) -> None:
        _title("3. The same commands again: only the changed file is read, only the changed row has a new version")
        self._download()
        self._upload()
        self._show()

    def _third(self) -> None:
        _title("4. And again: nothing is new, so nothing is read, committed or loaded")
        self._download()
        self._upload()

    def _write(self, name: str, rows: str) -> None:
        (self.at / "sftp/sales" / name).write_text(HEAD + rows)

    def _environment(self, port: int, fingerprint: str) -> None:
        self.env = {
            "ACHVY_DATASTORE": "./datastore",
            "ACHVY_CNXN__URI": f"sftp://demo:{self.password}@127.0.0.1:{port}",
            "ACHVY_CNXN__HOST_KEY": fingerprint,
            "ACHVY_CNXN__DB__URL": f"duckdb:///{DATABASE}",
        }
        for name, value in self.env.items():
            shown = value.replace(self.password, "***")
            say.out(f"  {click.style(f'export {name}={shlex.quote(shown)}', fg='cyan')}")

    def _download(self) -> None:
        self._anchovy("start -op sftp.CsvDownloader --id sales_sftp -u demo")

    def _upload(self) -> None:
        self._anchovy("start -op sql.Uploader --id warehouse -u demo -U sales_sftp")

    def _anchovy(self, command: str) -> None:
        """Run one command as a person would, and show what it says."""
        say.out(f"  {click.style(f'$ anchovy {command}', fg='cyan')}")
        inherited = {k: v for k, v in read_environment(str(self.at)).items() if not k.startswith(("ACHVY_", "ANCHY_", "ACHY_"))}
        done = subprocess.run(  # noqa: S603  # our own command, and no shell
            [sys.executable, "-m", "anchovies.cli.main", *command.split()],
            cwd=self.at, env={**inherited, **self.env}, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        for line in (done.stdout + done.stderr).splitlines():
            say.out(f"    {_STAMP.sub('', line).replace(self.password, '***')}")
        if done.returncode:
            raise AnchovyError(f"the command ended with exit code {done.returncode}", hint="what it said stands above")

    @contextmanager
    def _server(self) -> Iterator[tuple[int, str]]:
        process = subprocess.Popen(  # noqa: S603  # our own module, and no shell
            [sys.executable, "-m", "anchovies.cli.demo_server", str(self.at / "sftp"), "demo", self.password],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        try:
            port, _, fingerprint = process.stdout.readline().strip().partition(" ")
            if not fingerprint:
                raise AnchovyError("the demo's SFTP server did not start", hint="what it said stands above")
            yield int(port), fingerprint
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    def _show(self) -> None:
        say.out()
        rows = self._history()
        say.table([("   ", *r) for r in rows[1:]], ("   ", *rows[0]))
        say.out()
        say.out("  The old price is still there: its _del says which version replaced it. The other rows were left alone.")

    def _history(self) -> list[tuple[str, ...]]:
        import duckdb

        with duckdb.connect(str(self.at / DATABASE), read_only=True) as db:
            found: Any = db.execute(HISTORY.format(schema="sales_sftp__demo"))
            names = tuple(str(column[0]) for column in found.description)
            return [names, *(tuple("" if v is None else str(v) for v in row) for row in found.fetchall())]


def _title(text: str) -> None:
    say.out()
    say.out(click.style(text, bold=True))


def _indent(text: str, name: str) -> str:
    lines = [f"  # {name}", *(f"  {line}" for line in text.splitlines())]
    return click.style("\n".join(lines), dim=True)


def _farewell(at: Path, *, kept: bool) -> None:
    _title("What lies where")
    say.out("  datastore/demo/sales_sftp/$log/         the commits: files, rows and checkpoints together")
    say.out("  datastore/demo/sales_sftp/data/sales/   the rows, as Parquet")
    say.out(f"  {DATABASE}                        schema sales_sftp__demo, table sales")
    _title("What to type next")
    if kept:
        say.out(f"  cd {shlex.quote(str(at))}")
        say.out("  anchovy checkpoint history -i sales_sftp -u demo --datastore ./datastore")
        say.out("  anchovy plan -op sql.Uploader -i warehouse -u demo -U sales_sftp --datastore ./datastore")
    else:
        say.out("  anchovy demo --keep          the same, and everything stays in ./anchovies-demo to look around")
    say.out("  anchovy plugin               what there is to download from and to load into")
    say.out("  anchovy start --help         how to run your own")
