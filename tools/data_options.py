"""The options of labelled data, which `select`, `heads`, `gates` and `policy` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.tools.options import group, project_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.compiler.select.data import DataOptions
    from skipc.tools.options import F


def data_options(
    text: str,
    samples: tuple[int, int],
    parts: str,
    shares: str,
    seeded: str = "the samples and their parts",
    more: str = "",
    of_project: bool = False,
) -> Callable[[F], F]:
    """Returns what adds the options of labelled data: ``data``, a ``DataOptions``.

    Args:
        text: The help of ``--data``.
        samples: The least of ``--samples``, and how many are used where nothing is said.
        parts: The shares where nothing is said.
        shares: What they are for.
        seeded: What ``--seed`` chooses.
        more: Shares of another number that may be said, too.
        of_project: Whether it is the data that ``skipc.toml`` names.
    """
    count = len(parts.split(":"))
    counts = {count, len((more or parts).split(":"))}

    def made(
        data: str, samples: int, parts: str, seed: int, mean: str | None, std: str | None
    ) -> DataOptions:
        from skipc.compiler.select.data import DataOptions

        given = numbers("--parts", parts.replace(":", ","))
        if len(given) not in counts or any(s <= 0 or s != int(s) for s in given):
            raise click.UsageError(
                f"--parts {parts!r}: write {count} whole numbers, e.g. {default}."
            )
        return DataOptions(
            text=data,
            samples=samples,
            parts=tuple(int(share) for share in given),
            seed=seed,
            mean=() if mean is None else numbers("--mean", mean),
            std=() if std is None else numbers("--std", std),
        )

    default = parts
    option = project_option if of_project else click.option
    return group(
        "data",
        made,
        option("--data", type=click.Path(), required=True, metavar="DATA", help=text),
        click.option(
            "--samples",
            type=click.IntRange(min=samples[0]),
            default=samples[1],
            help="Use at most so many samples.",
        ),
        click.option(
            "--parts",
            metavar=":".join("ABCD"[:count]),
            default=parts,
            help=f"Shares for {shares}.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            help=f"Chooses {seeded}.",
        ),
        option("--mean", metavar="M,M,M", help="Image folder: subtracted per channel."),
        option("--std", metavar="S,S,S", help="Image folder: divided by per channel."),
    )


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Returns the numbers in an option's text, separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"{option} {text!r}: write numbers, separated by commas."
        ) from None
