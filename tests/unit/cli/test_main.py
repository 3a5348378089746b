"""The command line in this process: options, near misses, exit codes, what is said where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anchovies.cli import say
from anchovies.cli.main import COMMANDS, run

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """`typed('config', '-i', 'x')` → (exit code, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setenv("ACHVY_HOME", str(tmp_path / "home"))

    def type_(*args: str) -> tuple[int, str, str]:
        say.redactor.cache_clear()
        code = run(list(args))
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return type_


def test_version_and_help(typed: Typed) -> None:
    assert typed("--version")[:2] == (0, "anchovies 0.1.0\n")
    code, out, _ = typed("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, "run", "connector"])
def test_every_command_has_help(typed: Typed, name: str) -> None:
    code, out, _ = typed(name, "--help")
    assert code == 0
    assert "Usage: anchovy" in out


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["strat"], "there is no command 'strat'", "did you mean 'start'?"),
        (["start", "--idd", "x"], "No such option '--idd'", "did you mean '--id'?"),
        (["start", "--exection-timeout", "5"], "No such option", "did you mean '--execution-timeout'?"),
        (["start"], "no operator was given", "say what to run"),
        (["start", "-op", "nope.X"], "there is no operator 'nope.X'", ""),
        (["start", "-op", "sftp.CsvDownloader", "-t", "soon"], "--execution-timeout: expected a time", ""),
        (["start", "-op", "sftp.CsvDownloader", "--worker-num", "3"], "there is no worker 3 of 1", "workers are counted from 0"),
        (["start", "-op", "sftp.CsvDownloader", "-c", "nope.yaml"], "cannot read the configuration nope.yaml", ""),
        (["school"], "`anchovy school` is not built yet", ""),
        (["plugin", "sfpt"], "there is no plugin 'sfpt'", "did you mean 'sftp'?"),
        (["plugin", "sftp", "trsut", "h"], "the plugin 'sftp' has no command 'trsut'", "did you mean 'trust'?"),
        (["checkpoint", "-i", "nobody"], "nobody has kept nothing", "-i, -u and --datastore"),
    ],
)
def test_mistakes_exit_2_with_a_way_out(typed: Typed, args: list[str], message: str, hint: str) -> None:
    code, out, err = typed(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert not hint or f"hint: {hint}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("form", [["-op", "a.B"], ["-op=a.B"], ["--op", "a.B"], ["--operator-cls=a.B"]], ids=" ".join)
def test_the_operator_in_every_form(typed: Typed, form: list[str]) -> None:
    _, out, _ = typed("config", "-i", "x", *form)
    assert "operator_cls             a.B" in out


def test_config_says_where_everything_came_from(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.yaml").write_text("config: {grace: 5s, interval: 30}\ntbls: {sales: {}}")
    Path(".env").write_text("ACHVY_INTERVAL=2m\nACHVY_CNXN__URI=sftp://u:correct-horse@h\n")
    monkeypatch.setenv("ACHVY_UPSTREAM", "a,b")
    code, out, err = typed("config", "-i", "x", "-e", "t1", "-e", "t2")
    assert code == 0
    lines = {tuple(line.split()) for line in out.splitlines()}
    assert {
        ("id", "x", "command", "line"), ("interval", "2m", ".env:", "ACHVY_INTERVAL"), ("grace", "5s", "config.yaml:", "config.grace"),
        ("upstream", "a,", "b", "ACHVY_UPSTREAM"), ("enabled", "t1,", "t2", "command", "line"), ("tables", "sales"),
        ("connection", "default:", "uri"), ("commit_bytes", "64", "MiB", "default"),
    } <= lines  # fmt: skip
    assert "correct-horse" not in out + err


def test_config_as_json(typed: Typed) -> None:
    found = json.loads(typed("config", "-i", "x", "--json", "-S")[1])
    assert found["settings"]["commit_seconds"] == {"value": 5.0, "origin": "default"}
    assert found["file"] is None


def test_warnings_are_told(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVYID", "x")
    assert "warning: ACHVYID is not read; did you mean ACHVY_ID?" in typed("config")[2]


def test_verbose_is_debug(typed: Typed) -> None:
    assert "debug" in typed("config", "-i", "x", "-v")[1]


def test_plugins(typed: Typed) -> None:
    code, out, _ = typed("plugin")
    assert code == 0
    assert all(word in out for word in ("files.CsvDownloader", "sftp.CsvDownloader", "sql.Uploader"))
    code, out, _ = typed("connector", "sftp")
    assert code == 0
    assert all(word in out for word in ("tbls.*.delimiter", "PPK_PATH", "HOST_KEY", "anchovy plugin sftp trust"))
    assert {p["name"] for p in json.loads(typed("plugin", "--json")[1])} >= {"files", "sftp", "sql"}
    assert "URI" in json.loads(typed("plugin", "--json", "sftp")[1])["connections"]["SftpConnection"]["takes"]


def test_a_plugins_own_command(typed: Typed) -> None:
    Path("anchovies/plugins").mkdir(parents=True)
    Path("anchovies/plugins/greeter.py").write_text(
        "import click\nPLUGIN = {'name': 'greeter', 'commands': {'greet': 'anchovies.plugins.greeter:greet'}}\n"
        "@click.command()\n@click.argument('who')\n@click.option('--loud', is_flag=True)\n"
        'def greet(who, loud): click.echo(f\'hello {who}{"!" if loud else ""}\')\n'
    )
    assert typed("plugin", "greeter", "greet", "you", "--loud")[:2] == (0, "hello you!\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(typed: Typed, shell: str) -> None:
    code, out, _ = typed("completion", shell)
    assert code == 0
    assert "_ANCHOVY_COMPLETE" in out


def test_authors_code_shows_its_own_lines(typed: Typed) -> None:
    Path("broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    code, _, err = typed("start", "-op", "./broken.py:X", "-i", "x")
    assert code == 1
    assert "error: ZeroDivisionError: division by zero" in err
    assert 'broken.py", line 2, in f' in err
    assert "registry.py" not in err
    assert "registry.py" in typed("start", "-op", "./broken.py:X", "-i", "x", "-v")[2]


def test_no_error_shows_a_secret(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVY_CNXN__API__TOKEN", "correct-horse")
    Path("leaky.py").write_text("raise ValueError('cannot log in with correct-horse')\n")
    code, out, err = typed("start", "-op", "./leaky.py:X", "-i", "x")
    assert code == 1
    assert "cannot log in with ***" in err
    assert "correct-horse" not in out + err.replace("'cannot log in with correct-horse'\n", "")


def test_errors_are_json_lines_where_all_is(typed: Typed) -> None:
    """Also what is wrong with the command, before anything runs."""
    for args, message, hint in (
        (["--idd", "x"], "No such option '--idd'", "did you mean '--id'?"),
        (
            ["-op", "sfpt.CsvDownloader", "-i", "x"],
            "there is no operator 'sfpt.CsvDownloader'",
            "did you mean 'sftp.CsvDownloader'?",
        ),
    ):
        code, out, err = typed("start", "--log-format", "json", *args)
        (line,) = [json.loads(x) for x in err.splitlines()]
        assert (code, out) == (2, "")
        assert (line["level"], line["hint"]) == ("error", hint)
        assert message in line["message"]
    Path("broken.py").write_text("1 / 0\n")
    (line,) = [json.loads(x) for x in typed("start", "--log-format=json", "-op", "./broken.py:X", "-i", "x")[2].splitlines()]
    assert (line["message"], "broken.py" in line["traceback"]) == ("ZeroDivisionError: division by zero", True)
    assert typed("start", "-op", "./broken.py:X", "-i", "x")[2].endswith("hint: -v shows the whole traceback\n"), (
        "for that command only"
    )


def test_a_run_as_json_lines(typed: Typed) -> None:
    Path("seven.py").write_text(
        "from anchovies.sdk import Downloader, source\nclass Seven(Downloader):\n    @source('t')\n    def t(self):\n"
        "        yield {'n': 7}\n    @source('u')\n    def u(self):\n        raise ValueError('no')\n        yield\n"
    )
    code, out, err = typed("start", "--log-format", "json", "--log-rows", "-op", "./seven.py:Seven", "-i", "x", "-u", "me")
    assert (code, out) == (1, "")
    lines = [json.loads(x) for x in err.splitlines()]
    assert {x["anchovy"] for x in lines} == {"me/x"}
    assert len({x["session"] for x in lines if "session" in x}) == 1
    assert [x["rows"] for x in lines if x["event"] == "rows"] == [[{"n": 7}]]
    assert [x["tbl"] for x in lines if x["event"] == "task_ended" and x["level"] == "error"] == ["u"]
    assert lines[-1]["event"] == "session_ended"
