"""Which host key is trusted: a pinned fingerprint, or a line of known_hosts. Anything else is refused, with the ways out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anchovies.plugins.sftp.address import Address
from anchovies.sdk import ConfigError

if TYPE_CHECKING:
    import asyncssh

KEY_ALGS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256")
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr"


class HostKeys:
    """What this connection trusts, and the key that it was offered."""

    def __init__(self, address: Address, known_hosts: str, pinned: str | None, variable: str = "ACHVY_CNXN__HOST_KEY") -> None:
        self._address = address
        self._variable = variable
        self._file = Path(known_hosts).expanduser()
        self.pinned = _pin(pinned) if pinned else None
        self.offered: asyncssh.SSHKey | None = None

    def lookup(self, host: str, addr: str, port: int | None) -> Any:
        """Trusted, CA and revoked keys, for asyncssh."""
        import asyncssh

        nothing: tuple[list[Any], ...] = ([], [], [], [], [], [], [])
        if self.pinned or not self._file.exists():
            return nothing
        try:
            return asyncssh.read_known_hosts(str(self._file)).match(host, "", port)
        except (OSError, ValueError) as e:
            raise ConfigError(f"{self._file} cannot be read: {e}", hint="mend the file, or set HOST_KEY") from None

    def accept(self, key: asyncssh.SSHKey) -> bool:
        """Whether a key that known_hosts does not have is the pinned one."""
        self.offered = key
        return self.pinned is not None and key.get_fingerprint("sha256") == self.pinned

    def refusal(self) -> ConfigError:
        """Why the key was refused, and what to do."""
        shown = self._address.shown
        seen = self.offered.get_fingerprint("sha256") if self.offered else "(no key)"
        if self.pinned:
            return ConfigError(
                f"{shown} has the host key {seen}, not the pinned {self.pinned}: refused. This may be another machine",
                hint=f"ask whoever runs the server before you change {self._variable}",
            )
        if any(self.lookup(self._address.host, "", self._address.port)[:3]):
            return ConfigError(
                f"THE HOST KEY OF {shown} HAS CHANGED, or is revoked: refused. It is now {seen}; {self._file} has another",
                hint="ask whoever runs the server. If the change is right, take the old line away "
                f"(ssh-keygen -f {self._file} -R '{self._address.known_as}') and run: anchovy plugin sftp trust {shown}",
            )
        return ConfigError(
            f"{shown} is not known; its host key is {seen}",
            hint=f"if that is right, run: anchovy plugin sftp trust {shown}   or set: {self._variable}={seen}",
        )


def _pin(text: str) -> str:
    pin = text.strip().rstrip("=")
    if not pin.startswith("SHA256:") or len(pin) != 50:
        raise ConfigError(
            "HOST_KEY is no fingerprint", hint="it looks like SHA256: followed by 43 characters, as ssh-keygen -l prints it"
        )
    return pin
