"""The norm statistics of chosen configurations, for the file beside the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.norms.statistics import FamilyNorms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.norms.statistics import NormMode
    from skipc.compiler.select.evaluator import Evaluator


def family_norms(
    evaluator: Evaluator, mode: NormMode, configurations: Mapping[str, Genes]
) -> FamilyNorms:
    """Returns what ``evaluator`` estimates for the configurations, by their names."""
    return FamilyNorms(
        mode,
        evaluator.base_statistics(),
        {name: evaluator.statistics(genes) for name, genes in configurations.items()},
    )
