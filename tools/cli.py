"""The ``skipc`` command, and how every command ends: a user's mistake without a traceback.

Exit codes: 0 done; 1 a check failed; 2 the user's mistake; 130 interrupted, 143 terminated.
Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import errno
import importlib
import io
import logging
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from skipc.runtime.errors import SkipcError, choices_text, install_text, printable
from skipc.tools.console import fail, tell

if TYPE_CHECKING:
    from types import FrameType


_COMMANDS: dict[str, str] = {
    "init": "Write skipc.toml: the network, data and target of a project.",
    "train": "Train a network that tolerates skipping.",
    "units": "List the parts of a network that may be skipped.",
    "heads": "Train small classifiers for answers before a network's end.",
    "gates": "Train small networks that decide which units run.",
    "select": "Find the configurations worth building.",
    "build": "Compile a checkpoint and a front into a bundle.",
    "finish": "Build a bundle's engines on this machine.",
    "policy": "Solve anew when a configuration with exits answers.",
    "tolerate": "Find the rate of memory errors that a bundle stands.",
    "router": "Train a router, which chooses a configuration for each input.",
    "show": "Show what a bundle holds.",
    "check": "Check a bundle's hashes and its outputs on this machine.",
    "run": "Run a bundle on arrays from a file.",
    "serve": "Answer requests with a bundle over HTTP.",
    "triton": "Write a bundle as a model of NVIDIA's Triton server.",
    "simulate": "Replay scenarios on a bundle's governor.",
    "doctor": "Say what is installed, and what can be done here.",
    "targets": "List the targets that can be compiled for.",
    "report": "Show a bundle and its measurements as a page.",
    "trace": "Draw and sum up what an engine did over time.",
    "meters": "List what measures energy here, and what it shows.",
}

# What an optional dependency is called, and the extra that installs it.
_EXTRAS: dict[str, str] = {
    "torch": "compiler",
    "onnx_ir": "compiler",
    "onnxscript": "compiler",
    "safetensors": "compiler",
    "platformdirs": "compiler",
    "onnx": "finish",
    "onnxruntime": "finish",
    "sklearn": "select",
    "scipy": "select",
    "matplotlib": "select",
    "PIL": "select",
    "plotly": "select",
    "pymoo": "select",
    "ray": "ray",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "transformers": "dev",
}

# The disk's or the system's limits, which no file name goes with.
_LIMITS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENOMEM)

_TERMINATED = 128 + signal.SIGTERM


class _LazyGroup(click.Group):
    """Imports a subcommand's module only when it is used, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"skipc.tools.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}. {choices_text(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="skipc", prog_name="skipc")
def cli() -> None:
    """Compile networks that can drop parts of themselves, one engine per configuration."""


def main() -> None:
    """Runs the command line and exits the process."""
    run_and_exit(cli, "skipc")


def run_and_exit(command: click.Command, name: str) -> NoReturn:
    """Runs a command on the process's arguments and exits the process.

    Args:
        command: The command; what it returns is the exit code if it is a whole number.
        name: What the user typed to run it, for its help.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_LogLine())
    try:
        status = command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        usage = io.StringIO()
        error.show(usage)
        tell(usage.getvalue().removesuffix("\n"))
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted; nothing was left half-written.")
        sys.exit(128 + signal.SIGINT)
    except SkipcError as error:
        fail(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        fail(
            f"{error.name!r} is needed for this command and is not installed. Install it with:"
            f" {install_text(extra)}"
        )
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno not in _LIMITS:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        fail(f"{where}{error.strerror}.")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends the process as an exception does, so that nothing half-written is left."""
    sys.exit(_TERMINATED)


class _LogLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


if __name__ == "__main__":
    main()
