"""``python -m skipc.tools.recipes FOLDER``: trains the digits network with a progress bar."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from skipc.runtime.errors import SkipcError
from skipc.tools.recipes.digits import Training, make_digits


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--epochs", default=Training().epochs, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def main(folder: Path, epochs: int, seed: int) -> None:
    """Trains a stochastic-depth ResNet on digits; writes ckpt.pt and front.json to FOLDER."""
    console = Console()
    try:
        with Progress(console=console) as bar:
            task = bar.add_task("Training on digits", total=None)
            front = make_digits(
                folder,
                Training(epochs=epochs, seed=seed),
                lambda done, total: bar.update(task, completed=done, total=total),
            )
    except SkipcError as error:
        raise SystemExit(f"Error: {error}") from error
    for entry in front.entries:
        skipped = ", ".join(entry.skip) or "nothing"
        accuracy = entry.metrics["accuracy"]
        console.print(f"{entry.name}: test accuracy {accuracy:.4f}, skips {skipped}")


if __name__ == "__main__":
    main()
