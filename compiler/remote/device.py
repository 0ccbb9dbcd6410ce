"""What a device is asked for first: its skipc, and a folder for a while."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skipc.compiler.errors import RemoteError
from skipc.compiler.remote.connection import SSH_FAILED, last_lines, one_line
from skipc.runtime.errors import install_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skipc.compiler.remote.connection import Device, Session

_FOLDER_MARK = "skipc-folder:"
_LINE_BYTES = 4096
_MAX_ANSWER_BYTES = 1 << 16
_VERSION = re.compile(r"^skipc, version (\S+)$", re.MULTILINE)

# Holds a folder until its input ends, so that nothing is left there however this side ends, a
# lost connection included. `rm` may meet a command that is still ending and tries again. One
# line, because csh allows no line break between quotes.
_KEEP_FOLDER = (
    "trap '' HUP INT PIPE TERM;"
    ' folder=$(mktemp -d "${TMPDIR:-/tmp}/skipc.XXXXXXXX") || exit 1;'
    f" printf '{_FOLDER_MARK}%s\\n' \"$folder\"; cat > /dev/null;"
    ' for pause_s in 1 2 4; do rm -rf "$folder" && exit 0; sleep "$pause_s"; done; exit 1'
)


def check_device(device: Device) -> None:
    """Asks the device for its skipc.

    Raises:
        RemoteError: It cannot be reached, has no skipc or one of another version, or its
            shell prints something before a command's output.
    """
    host, command = device.host, shlex.join(device.command)
    ours = importlib.metadata.version("skipc")
    words = device.skipc("--version")
    with device.session(words, f"running `{command} --version`") as session:
        answer = session.output.read(_MAX_ANSWER_BYTES).decode("utf-8", "replace")
        code = session.end()
    if code != 0:
        failure = session.failure(session.errors)
        if code == SSH_FAILED:
            raise failure
        raise RemoteError(
            f"{failure}\nInstall skipc {ours} there ({install_text('finish')}), or say with"
            " --on-command how it is run."
        )
    found = _VERSION.findall(answer)
    shown = last_lines(answer.encode())
    if not found:
        raise RemoteError(
            f"{host}: `{command} --version` answered {shown!r}, expected 'skipc, version"
            f" {ours}'. Say with --on-command how skipc is run there."
        )
    if found[-1] != ours:
        raise RemoteError(
            f"{host}: its skipc is version {one_line(found[-1].encode())}, this one is {ours}."
            f" Both must be the same: install {ours} there, or name another with --on-command."
        )
    if answer.strip() != f"skipc, version {ours}":
        raise RemoteError(
            f"{host}: something is printed before the output of every command: {shown!r}."
            " Usually a start-up file of its shell: let .bashrc and the like print only where"
            " the shell is interactive."
        )


@contextmanager
def temporary_folder(device: Device) -> Iterator[str]:
    """Yields a new folder on the device that is gone afterwards."""
    words = ("sh", "-c", _KEEP_FOLDER)
    with device.session(words, "making a temporary folder there") as session:
        folder = _marked_folder(session)
        if folder is None:
            session.expect_success()
            raise RemoteError(
                f"{device.host}: `mktemp -d` there gave no absolute path. Set TMPDIR on"
                " the device to a folder that can be written."
            )
        yield folder
        code = session.end()
    if code != 0:
        shown = one_line(folder.encode())
        raise RemoteError(
            f"{device.host}: the engines are in place here, but {shown} is left there:"
            f" {session.errors or 'the connection broke'}. Remove it."
        )


def _marked_folder(session: Session) -> str | None:
    left_bytes = _MAX_ANSWER_BYTES
    while left_bytes > 0 and (line := session.output.readline(_LINE_BYTES)):
        left_bytes -= len(line)
        text = line.decode("utf-8", "replace").rstrip("\n")
        folder = text.removeprefix(_FOLDER_MARK)
        if folder != text:
            return folder if folder.startswith("/") and folder.isprintable() else None
    return None
