"""``trtbench``, ``python -m skipc.tools.trtbench`` and ``python tools/trtbench``."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a folder, Python looks into it first: our modules would hide others of their names.
_HERE = Path(__file__).absolute().parent
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).absolute() != _HERE]


def main() -> None:
    """Runs the command line and exits the process."""
    try:
        from skipc.tools.cli import run_and_exit
    except ModuleNotFoundError as error:
        if error.name not in ("skipc", "skipc.tools"):
            raise
        sys.stderr.write(
            f"Error: skipc is not installed for {sys.executable}. Run `make test` once and use"
            " .venv/bin/python, or run `pip install .` in the checkout.\n"
        )
        sys.exit(2)
    from skipc.tools.trtbench.command import command

    run_and_exit(command, "trtbench")


if __name__ == "__main__":
    main()
