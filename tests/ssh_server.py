"""An SSH server on loopback that runs commands with the real shell, for the real client.

Run as a program with a folder: ``client.pub`` there may log in, the host key is ``host``. It
prints its port and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Iterator

STUB = """#!/bin/sh
if [ "$1" = --version ]; then echo "skipc, version {version}"; exit; fi
{finish}
"""


@dataclass(frozen=True)
class Server:
    """A running server and the device that its commands run on.

    Attributes:
        port: Where it listens on 127.0.0.1.
        pid: Its process.
        folder: Holds the keys, and the device: ``bin`` (its PATH), ``tmp``, ``home``.
    """

    port: int
    pid: int
    folder: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What the client must be told to get in, whatever its user's configuration says."""
        return (
            f"Port={self.port}",
            f"IdentityFile={self.folder / 'client'}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            f"GlobalKnownHostsFile={self.folder / 'none'}",
            "StrictHostKeyChecking=yes",
            "ControlPath=none",
            "User=somebody",
        )

    @property
    def on(self) -> tuple[str, ...]:
        """The options of the command line that name this device."""
        options = [word for option in self.options for word in ("--on-option", option)]
        return ("--on", "127.0.0.1", *options)

    def left(self) -> list[str]:
        """Returns the temporary folders of ours that are on the device."""
        return sorted(path.name for path in (self.folder / "tmp").glob("skipc.*"))

    def install(self, text: str, name: str = "skipc") -> None:
        """Puts a program on the device's PATH."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def install_skipc(self) -> None:
        """Puts this skipc on the device's PATH."""
        self.install(f'#!/bin/sh\nexec "{sys.executable}" -m skipc.tools.cli "$@"\n')

    def install_stub(self, finish: str, version: str = "0.1.0") -> None:
        """Puts a skipc there that runs the shell's ``finish`` instead of finishing."""
        self.install(STUB.format(finish=finish, version=version))

    def reset(self) -> None:
        """Makes the device as new: this skipc, nothing printed by its shell."""
        for name in ("bin", "tmp", "home"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        (self.folder / "bashrc").write_text("")
        self.trust((self.folder / "host.pub").read_text())
        self.install_skipc()

    def trust(self, public_key: str) -> None:
        """Makes ``public_key`` the one that the client expects."""
        known = " ".join(public_key.split()[:2])
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}\n")


def write_key(path: Path) -> str:
    """Writes a new key pair and returns the public one."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key())
    path.chmod(0o600)
    public: bytes = key.export_public_key()
    path.with_suffix(".pub").write_bytes(public)
    return public.decode()


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Yields a server with new keys, in a process of its own."""
    write_key(folder / "host")
    write_key(folder / "client")
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            server = Server(int(process.stdout.readline()), process.pid, folder)
            server.reset()
            yield server
        finally:
            process.stdin.close()
            process.wait(timeout=60)


async def _handle(channel: asyncssh.SSHServerProcess[bytes], folder: Path) -> None:
    """Runs one command as sshd does: with the user's shell, which reads its start-up file."""
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "BASH_ENV": str(folder / "bashrc"),
    }
    assert channel.command is not None
    child = await asyncio.create_subprocess_exec(
        *("bash", "-c", channel.command),
        env=environment,
        cwd=folder / "home",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    copies = asyncio.gather(
        _copy(child.stdout, channel.stdout), _copy(child.stderr, channel.stderr)
    )
    forward = asyncio.ensure_future(_copy(channel.stdin, child.stdin))
    forward.add_done_callback(lambda _: child.stdin.close())
    code = await child.wait()
    await copies
    forward.cancel()
    channel.exit(code if code >= 0 else 128 - code)


async def _copy(source, sink) -> None:
    """Copies to the end; a side that is gone ends it as a closed pipe does."""
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except (OSError, asyncssh.Error):
        if isinstance(source, asyncio.StreamReader):
            source._transport.close()  # whoever writes there is told


def _end_of_writing(channel: asyncssh.SSHServerChannel[bytes], packet: Any) -> bool:
    """Ends a channel whose other side takes no more, as sshd does and asyncssh does not."""
    packet.check_end()
    channel.abort()
    return True


_REQUEST = "_process_eow_at_openssh_dot_com_request"


async def _serve(folder: Path) -> None:
    setattr(asyncssh.SSHServerChannel, _REQUEST, _end_of_writing)
    server = await asyncssh.listen(
        *("127.0.0.1", 0),
        server_host_keys=[str(folder / "host")],
        authorized_client_keys=str(folder / "client.pub"),
        process_factory=lambda channel: _handle(channel, folder),
        encoding=None,
        server_version="OpenSSH_9.6",  # others are not told that no more is taken
    )
    print(server.get_port(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
