"""One command on another machine: OpenSSH's client with its three streams."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from skipc.compiler.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What OpenSSH itself refuses in host and user names since 9.6: a ProxyCommand of the user's
# configuration may hand them to a shell.
_UNSAFE = frozenset("'`\"$;&<>|(){}")

# First, because ssh takes the first value it finds. Without BatchMode it would wait for an
# answer that nobody sees; a RemoteCommand or a forwarded port of the configuration would get
# in the way of the command.
_ALWAYS = ("BatchMode=yes", "RemoteCommand=none", "ClearAllForwardings=yes")

SSH_FAILED = 255
"""The exit code of ssh where it is ssh itself that failed."""

_NOT_FOUND = 127
_TAIL_BYTES = 4096
_TOLD_LINES = 3
_TOLD_CHARACTERS = 300
_GRACE_S = 10.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Device:
    """A machine that builds engines; ports, keys and users are ssh's own configuration.

    Attributes:
        host: What ssh takes: ``HOST``, ``USER@HOST`` or an alias of ``~/.ssh/config``.
        options: ssh's ``-o`` options, each as ``NAME=VALUE``.
        command: The words that run skipc there.

    Raises:
        RemoteError: The host or the command is none, or an option has another form.
    """

    host: str
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ("skipc",)

    def __post_init__(self) -> None:
        parts = self.host.removeprefix("ssh://").split("@")
        bad = any(not part or part.startswith("-") for part in parts)
        if bad or not self.host.isprintable() or _UNSAFE & {*self.host} or " " in self.host:
            raise RemoteError(
                f"--on {self.host[:100]!r}: not a host that ssh can be given. Expected HOST,"
                " USER@HOST or an alias of ~/.ssh/config, without a leading '-', white space"
                " or characters of the shell."
            )
        for option in self.options:
            name, equals, _ = option.partition("=")
            if not equals or not name.isalnum():
                raise RemoteError(
                    f"--on-option {option[:100]!r}: expected an option of ssh as NAME=VALUE,"
                    " such as Port=2222."
                )
        if not self.command or not self.command[0] or self.command[0].startswith("-"):
            raise RemoteError(
                f"--on-command {shlex.join(self.command)!r}: not a command. Expected how"
                " skipc is run on the device, such as 'skipc' or '/opt/venv/bin/skipc'."
            )

    def skipc(self, *arguments: str) -> tuple[str, ...]:
        """Returns the words that run skipc there, reporting in plain lines."""
        return ("env", "TERM=dumb", *self.command, *arguments)

    def arguments(self, words: Sequence[str]) -> list[str]:
        """Returns ssh's own command line that runs ``words`` on the device."""
        options = [text for option in (*_ALWAYS, *self.options) for text in ("-o", option)]
        return ["ssh", "-T", "-a", "-x", *options, "--", self.host, shlex.join(words)]

    @contextmanager
    def session(self, words: Sequence[str], doing: str) -> Iterator[Session]:
        """Yields the command ``words`` running on the device.

        A block that ends well has called ``Session.end``; otherwise, Ctrl-C included, the
        streams are closed and ssh is waited for, at most some seconds.

        Args:
            words: The command; every word arrives there as it is.
            doing: What is being done, for errors, e.g. ``copying the bundle there``.

        Raises:
            RemoteError: There is no ssh on this machine.
        """
        if shutil.which("ssh") is None:
            raise RemoteError(
                "ssh is not on this machine's PATH, but --on needs it. Install the OpenSSH"
                " client, or run `skipc finish` on the device itself."
            )
        session = Session(self, words, doing)
        try:
            yield session
        finally:
            session.close()


class Session:
    """A running command; made by ``Device.session``.

    Attributes:
        input: What is written here the command reads.
        output: What the command writes to standard output.
    """

    def __init__(self, device: Device, words: Sequence[str], doing: str) -> None:
        self._host = device.host
        self._doing = doing
        # In a session of its own: Ctrl-C reaches this process only, which then ends the
        # commands one after the other.
        self._process = subprocess.Popen(
            device.arguments(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.input: IO[bytes] = self._process.stdin
        self.output: IO[bytes] = self._process.stdout
        self._heard = b""
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stderr,), daemon=True
        )
        self._listener.start()

    def end(self) -> int:
        """Waits for the command's end; returns its exit code, 255 where ssh itself failed.

        Its input is closed before, and what it still writes is read.
        """
        self._close_input()
        while self.output.read(_CHUNK_BYTES):
            pass
        return self._process.wait()

    @property
    def errors(self) -> str:
        """The last of what it and ssh wrote to standard error, printable."""
        # More is waited for some seconds only.
        self._listener.join(_GRACE_S)
        return last_lines(self._heard)

    def expect_success(self) -> None:
        """Ends the command.

        Raises:
            RemoteError: Its exit code is not 0.
        """
        if self.end() != 0:
            raise self.failure(self.errors)

    def failure(self, said: str) -> RemoteError:
        """Returns the error that says how the command ended, and what was ``said`` of it."""
        code, host = self._process.wait(), self._host
        errors = said or "no reason was given"
        if code == SSH_FAILED:
            try_it = shlex.join(["ssh", "-o", "BatchMode=yes", host, "true"])
            return RemoteError(
                f"{host}: ssh failed while {self._doing}: {errors}\nIt runs with"
                " BatchMode=yes, so it never asks for a password or about a host key. Make"
                f" this work in a terminal first, with your --on-option as -o: {try_it}"
            )
        missing = " (a command was not found)" if code == _NOT_FOUND else ""
        return RemoteError(
            f"{host}: failed with exit code {code}{missing} while {self._doing}: {errors}"
        )

    def close(self) -> None:
        """Ends the command whatever it is doing; nothing happens if it has ended."""
        try:
            self._close_input()
            self.output.close()
            for stop in (self._process.terminate, self._process.kill):
                try:
                    self._process.wait(_GRACE_S)
                    break
                except subprocess.TimeoutExpired:
                    stop()
        finally:
            self._process.poll()
            self._listener.join(_GRACE_S)

    def _close_input(self) -> None:
        # The command may have ended before it read everything: its exit code says more.
        with suppress(BrokenPipeError):
            self.input.close()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_TAIL_BYTES):
                self._heard = (self._heard + line)[-_TAIL_BYTES:]


def last_lines(data: bytes, lines: int = _TOLD_LINES) -> str:
    """Returns the last ``lines`` lines of what a device sent, on one line and printable."""
    found = [one_line(line) for line in data.splitlines()]
    return " ".join([line for line in found if line][-lines:])[-_TOLD_CHARACTERS:]


def one_line(data: bytes) -> str:
    """Returns ``data`` as text that cannot steer the terminal."""
    text = data.decode("utf-8", "replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
