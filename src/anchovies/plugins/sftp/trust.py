"""`anchovy plugin sftp trust HOST[:PORT]`: looks at a server's host keys and, once confirmed, adds them to known_hosts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anchovies.plugins.sftp.address import Address, parse_host
from anchovies.plugins.sftp.hostkeys import KEY_ALGS
from anchovies.plugins.sftp.loop import LoopThread
from anchovies.sdk import RetryableError

if TYPE_CHECKING:
    import asyncssh


def fetch_host_keys(address: Address, timeout: float = 30.0) -> list[asyncssh.SSHKey]:
    """The host keys that a server shows, one a type. Raises RetryableError if it cannot be reached."""
    loop = LoopThread()
    try:
        return loop.call(_fetch(address), timeout, address.shown)
    finally:
        loop.stop()


async def _fetch(address: Address) -> list[asyncssh.SSHKey]:
    import asyncssh

    found: list[asyncssh.SSHKey] = []
    for alg in KEY_ALGS:
        try:
            key = await asyncssh.get_server_host_key(address.host, address.port, server_host_key_algs=[alg], config=None)
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost):
            continue  # the server has no key of this type; some say so, some hang up
        except (TimeoutError, OSError, asyncssh.Error) as e:
            raise RetryableError(
                f"{address.shown} cannot be reached ({type(e).__name__})", hint="look at host and port"
            ) from None
        if key is not None:
            found.append(key)
    if not found:
        raise RetryableError(f"{address.shown} shows no host key that is known here")
    return found


def add_known_host(file: Path, address: Address, keys: list[asyncssh.SSHKey]) -> int:
    """Append the keys that are not there yet, in a file that only its owner can write. Returns how many were added."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = file.read_text() if file.exists() else ""
    lines = [f"{address.known_as} {key.export_public_key('openssh').decode().split(' #')[0].strip()}" for key in keys]
    new = [line for line in lines if line not in old.splitlines()]
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as out:
        out.write(("\n" if old and not old.endswith("\n") and new else "") + "".join(f"{line}\n" for line in new))
        out.flush()
        os.fsync(out.fileno())
    return len(new)


@click.command("trust")
@click.argument("host")
@click.option("--known-hosts", default="~/.ssh/known_hosts", show_default=True, help="The file to add the keys to.")
@click.option("--yes", is_flag=True, help="Do not ask. Only where the fingerprint was checked before.")
def trust_command(host: str, known_hosts: str, yes: bool) -> None:
    """Show the host keys of HOST[:PORT] and, once you say so, trust them."""
    address = parse_host(host)
    keys = fetch_host_keys(address)
    for key in keys:
        click.echo(f"{address.shown}  {key.get_algorithm()}  {key.get_fingerprint('sha256')}")
    if not yes:
        click.confirm("Are these the fingerprints that whoever runs the server told you?", abort=True)
    file = Path(known_hosts).expanduser()
    added = add_known_host(file, address, keys)
    click.echo(f"{added} added to {file}" if added else f"{file} has them already")
