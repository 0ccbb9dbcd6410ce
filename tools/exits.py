"""How a command ends: its exit code, and the user's mistakes told without a traceback.

Exit codes: 0 done; 1 a check failed; 2 the user's mistake; 130 interrupted, 143 terminated.
Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from skipc.runtime.errors import SkipcError, install_text

if TYPE_CHECKING:
    from types import FrameType

# What an optional dependency is called, and the extra that installs it.
_EXTRAS: dict[str, str] = {
    "torch": "compiler",
    "onnx_ir": "compiler",
    "onnxscript": "compiler",
    "safetensors": "compiler",
    "onnx": "finish",
    "onnxruntime": "finish",
    "sklearn": "select",
    "matplotlib": "select",
    "PIL": "select",
    "platformdirs": "select",
    "plotly": "select",
    "pymoo": "select",
    "ray": "ray",
    "transformers": "dev",
}

# The disk's or the system's limits, which no file name goes with.
_LIMITS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENOMEM)

_TERMINATED = 128 + signal.SIGTERM


def run_and_exit(command: click.Command, name: str) -> NoReturn:
    """Runs a command on the process's arguments and exits the process.

    Args:
        command: The command; what it returns is the exit code if it is a whole number.
        name: What the user typed to run it, for its help.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; nothing was left half-written.")
        sys.exit(128 + signal.SIGINT)
    except SkipcError as error:
        _say(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _say(
            f"{error.name!r} is needed for this command and is not installed. Install it with:"
            f" {install_text(extra)}"
        )
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno not in _LIMITS:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        _say(f"{where}{error.strerror}.")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends the process as an exception does, so that nothing half-written is left."""
    sys.exit(_TERMINATED)


def _say(text: str) -> None:
    # Click knows no NO_COLOR (https://no-color.org); None is its own choice.
    color = False if os.environ.get("NO_COLOR") else None
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {text}", err=True, color=color)
