"""The demo's SFTP server: a process of its own on 127.0.0.1, which ends with whoever started it. Needs asyncssh."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from base64 import b64encode
from typing import Any


def serve(root: str, user: str, password: str) -> None:
    """Serve the folder `root`; print `<port> <host key fingerprint>`, then run until stdin is closed."""
    asyncio.run(_serve(root, user, password))


async def _serve(root: str, user: str, password: str) -> None:
    import asyncssh

    class Login(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, given: str) -> bool:
            return username == user and given == password

    def files(channel: Any) -> Any:
        return asyncssh.SFTPServer(channel, chroot=os.fsencode(root))

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(Login, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=files)
    digest = hashlib.sha256(key.public_data).digest()
    sys.stdout.write(f"{server.get_port()} SHA256:{b64encode(digest).decode().rstrip('=')}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3])
