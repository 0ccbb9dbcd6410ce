"""Kills a process at every file operation of what it publishes, and says what is left.

Run as a program with a folder: each try is a fork of it, killed before its operation number n.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.bundle import files

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym")


def replace_folder(folder: Path) -> None:
    """Replaces a bundle with engines by another one."""
    with files.staged_folder(folder / "b.skipc") as staging:
        (staging / "manifest.json").write_text("new")
        (staging / "engines").mkdir()
        (staging / "engines/engines.json").write_text("new")


def replace_folder_in_two_steps(folder: Path) -> None:
    """Does the same where the system cannot exchange."""
    files.ctypes.CDLL = lambda *_, **__: object()  # type: ignore[misc,assignment]
    replace_folder(folder)


def replace_file(folder: Path) -> None:
    """Replaces a file."""
    files.write_whole(folder / "file", b"new")


def _killed_at(number: int, publish: Callable[[Path], None], folder: Path) -> bool:
    """Tells whether a fork that publishes was killed before its operation ``number``."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _: object) -> None:
            nonlocal seen
            if event not in _OPERATIONS:
                return
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            publish(folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _seen(folder: Path) -> str:
    """Returns what the published files say; they must agree."""
    said = {path.read_text() for path in folder.rglob("*") if "skipc-tmp" not in str(path)
            and path.is_file()}  # fmt: skip
    return "/".join(sorted(said)) or "nothing"


def main(root: Path) -> None:
    """Prints for each way of publishing what was there after each kill, and at the end."""
    for publish in (replace_folder, replace_folder_in_two_steps, replace_file):
        number, found = 0, []
        killed = True
        while killed:
            number += 1
            folder = root / f"{publish.__name__}-{number}"
            (folder / "b.skipc/engines").mkdir(parents=True)
            for name in ("b.skipc/manifest.json", "b.skipc/engines/engines.json", "file"):
                (folder / name).write_text("old")
            if publish is replace_file:
                shutil.rmtree(folder / "b.skipc")
            else:
                (folder / "file").unlink()
            killed = _killed_at(number, publish, folder)
            found.append(_seen(folder))
            publish_again = _killed_at(0, publish, folder)
            assert not publish_again
            left = sorted(path.name for path in folder.iterdir())
            assert len(left) == 1, (publish.__name__, number, left)
            assert _seen(folder) == "new", (publish.__name__, number)
        print(publish.__name__, number, *sorted(set(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
