"""Who gets in, which host is trusted, and what is said when it is not; never a secret in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from click.testing import CliRunner

from anchovies.plugins.sftp import SftpConnection, trust_command
from anchovies.sdk import AnchovyError, ConfigError, RetryableError
from anchovies.testing.servers import SftpServer, asyncssh_server, openssh_server, why_no_openssh

PASSWORD = "p@ss:w/örd#%"
QUOTED = "p%40ss%3Aw%2F%C3%B6rd%23%25"
SALES = [{"x": "1", "y": "ö"}, {"x": "2", "y": "a\nb"}]


def refused(kind: type[AnchovyError], **attributes: Any) -> AnchovyError:
    with pytest.raises(kind) as e:
        SftpConnection(**attributes).check()
    told = f"{e.value} {e.value.hint} {e.value.where} {e.value.__cause__}"
    assert not any(s in told for s in (PASSWORD, QUOTED, "not-it"))
    return e.value


def test_by_key_and_second_run(server: SftpServer, client_key: Path, reader: Any) -> None:
    reader.connect(uri=server.uri(), ppk_path=str(client_key), host_key=server.fingerprint)
    assert reader.read() == SALES and reader.ctx.warnings == []
    assert reader.read() == [] and reader.ctx.units == []


@pytest.mark.parametrize("kind", ["asyncssh", pytest.param("openssh", marks=pytest.mark.server)])
def test_by_password(kind: str, root: Path, reader: Any, tmp_path: Path) -> None:
    if kind == "openssh" and (why := why_no_openssh(password=True)):
        pytest.skip(why)
    start = asyncssh_server if kind == "asyncssh" else openssh_server
    user = "us/er" if kind == "asyncssh" else f"anchovy{os.getpid() % 100_000}"
    with start(root, user, PASSWORD) as server:
        known = tmp_path / "known"
        known.write_text(server.known_hosts_line + "\n")
        uri = f"sftp://{user.replace('/', '%2F')}:{{}}@{server.uri_host}{server.root}"
        reader.connect(uri=uri.format(QUOTED), known_hosts=str(known))
        assert reader.read() == SALES
        error = refused(ConfigError, uri=uri.format("not-it"), known_hosts=str(known))
        assert "did not let user" in str(error) and "wrong user, password or key" in str(error)
        reader.connect(uri=uri.format("not-it"), password=PASSWORD, known_hosts=str(known))


def test_wrong_key(server: SftpServer, tmp_path: Path) -> None:
    path = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    path.chmod(0o600)
    error = refused(ConfigError, uri=server.uri(), ppk_path=str(path), host_key=server.fingerprint)
    assert "wrong user, password or key" in str(error)


def test_unknown_then_trusted_then_changed(root: Path, reader: Any, tmp_path: Path) -> None:
    known = tmp_path / "ssh" / "known_hosts"
    with asyncssh_server(root) as server:
        uri = server.uri("password")
        error = refused(ConfigError, uri=uri, known_hosts=str(known))
        assert server.fingerprint in str(error)
        assert f"anchovy plugin sftp trust {server.uri_host}" in str(error.hint)
        assert f"ACHVY_CNXN__HOST_KEY={server.fingerprint}" in str(error.hint)
        args = [server.uri_host, "--known-hosts", str(known)]
        no = CliRunner().invoke(trust_command, args, input="n\n")
        assert no.exit_code == 1 and server.fingerprint in no.output and not known.exists()
        yes = CliRunner().invoke(trust_command, [*args, "--yes"])
        assert yes.exit_code == 0 and "1 added" in yes.output
        assert known.read_text() == server.known_hosts_line + "\n" and known.stat().st_mode & 0o777 == 0o600
        assert "already" in CliRunner().invoke(trust_command, [*args, "--yes"]).output
        reader.connect(uri=uri, known_hosts=str(known))
        assert reader.read() == SALES
    with asyncssh_server(root, port=server.port) as other:
        error = refused(ConfigError, uri=uri, known_hosts=str(known))
        assert "HAS CHANGED" in str(error) and other.fingerprint in str(error) and "ssh-keygen" in str(error.hint)
        error = refused(ConfigError, uri=uri, host_key=server.fingerprint)
        assert "not the pinned" in str(error) and other.fingerprint in str(error)


def test_nobody_listens() -> None:
    with pytest.raises(RetryableError, match=r"127\.0\.0\.1:1 cannot be reached: Connection refused"):
        SftpConnection(uri="sftp://u:p@127.0.0.1:1").check()
