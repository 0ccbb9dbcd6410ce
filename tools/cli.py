"""The ``skipc`` command; its exit codes are those of ``exits``."""

from __future__ import annotations

import importlib

import click

from skipc.runtime.errors import choices_text
from skipc.tools.exits import run_and_exit

_COMMANDS: dict[str, str] = {
    "train": "Train a network that tolerates skipping.",
    "units": "List the parts of a network that may be skipped.",
    "select": "Find the configurations worth building.",
    "build": "Compile a checkpoint and a front into a bundle.",
    "finish": "Build a bundle's engines on this machine.",
    "show": "Show what a bundle holds.",
    "check": "Check a bundle's hashes and its outputs on this machine.",
    "run": "Run a bundle on arrays from a file.",
    "simulate": "Replay scenarios on a bundle's governor.",
    "targets": "List the targets that can be compiled for.",
    "report": "Show a bundle and its measurements as a page.",
    "trace": "Draw and sum up what an engine did over time.",
    "meters": "List what measures energy here, and what it shows.",
}


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


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skipc", prog_name="skipc")
def cli() -> None:
    """Compile networks that can drop parts of themselves, one engine per configuration."""


def main() -> None:
    """Runs the command line and exits the process."""
    run_and_exit(cli, "skipc")


if __name__ == "__main__":
    main()
