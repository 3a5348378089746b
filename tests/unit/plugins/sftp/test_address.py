"""Addresses and key files: what is taken, and what is refused without showing a secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anchovies.plugins.sftp.address import check_key_file, parse_host, parse_uri
from anchovies.sdk import ConfigError, Secret


def test_uri() -> None:
    got = parse_uri(Secret("sftp://us%40er:p%3Aw%2F@Example.com:2222/base%20x/"))
    assert (got.host, got.port, got.user, got.base) == ("example.com", 2222, "us@er", "/base x")
    assert got.password == Secret("p:w/") and got.shown == "example.com:2222" and "p:w" not in repr(got)
    assert parse_uri(Secret("sftp://h")).known_as == "h" and parse_host("h:23").known_as == "[h]:23"


@pytest.mark.parametrize(
    "uri",
    ["http://u:secret@h", "sftp://u:secret@h:x", "sftp://u:secret@", "sftp://u:se#cret@h", "secret", "sftp://u:secret@h:99999"],
)
def test_wrong_uri_shows_no_secret(uri: str) -> None:
    with pytest.raises(ConfigError) as e:
        parse_uri(Secret(uri))
    assert "secret" not in f"{e.value} {e.value.__context__ if not e.value.__suppress_context__ else ''}"


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "my.ppk"
    path.write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    with pytest.raises(ConfigError) as e:
        check_key_file(str(path))
    assert f"puttygen {path} -O private-openssh -o {tmp_path / 'my.key'}" in str(e.value.hint)
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError) as e:
        check_key_file(str(path))
    assert e.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert check_key_file(str(path)) == path
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        check_key_file(str(tmp_path / "no"))


def test_listing_the_plugin_loads_nothing_heavy() -> None:
    code = "import anchovies.plugins.sftp, sys; print([m for m in ('asyncssh', 'pyarrow', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
