"""Evaluating configurations: those that differ in units and widths alone together.

What is chosen after norms, a precision, is a network of its own for each configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from skipc.compiler import axes
from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.axes.width import WidthAxis, widths_of
from skipc.compiler.errors import SupernetError
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.running import run_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.width import Widths
    from skipc.compiler.family import Family
    from skipc.compiler.select.samples import Samples

    Choices = Mapping[str, object]

_Key = tuple[tuple[str, ...], ...]


class Groups:
    """Groups configurations by every choice but what they skip and how wide they are.

    A group is one network. One that switches more than its units holds one configuration,
    and nothing is shared: then what is skipped tells groups apart, too. Norms are estimated
    on ``reestimate``.
    """

    def __init__(
        self, family: Family, reestimate: Samples, settings: EvaluationSettings
    ) -> None:
        self._family = family
        self._reestimate = reestimate
        self._settings = settings
        self._units = () if family.network.switching is not None else units_of(family).units
        self._widths = widths_of(family)
        self._together = {WidthAxis.key, *((SkipAxis.key,) if self._units else ())}
        self._later = {axis.key for axis in axes.AXES if axis.after_norms}
        self._known: dict[_Key, Evaluator] = {}

    def split(self, choices: Choices) -> tuple[_Key, Genes]:
        """Returns the group of a configuration, and what of its network is left out.

        The group is that of its norms, before what is chosen after them.

        Raises:
            SupernetError: The network has no such channels as it is evaluated.
        """
        taken = {
            axis.key: axis.taken(choices[axis.key])
            for axis in axes.AXES
            if axis.key in choices
        }
        skipped = set(taken.get(SkipAxis.key, ()))
        key = tuple(
            (axis, *names)
            for axis, names in taken.items()
            if names and axis not in self._together | self._later
        )
        widths = cast("Widths", choices.get(WidthAxis.key, ()))
        gone = {width.group: width.channels - width.kept for width in widths}
        groups = [group.name for group in self._widths.groups]
        unknown = next((group for group in gone if group not in groups), None)
        if unknown is not None:
            raise SupernetError(
                f"the channels of {unknown!r} cannot be followed in the network with a dynamic"
                " batch, which is what it is evaluated with. Leave them out of 'width'."
            )
        without = (int(unit.name in skipped) for unit in self._units)
        return key, (*without, *(gone.get(group, 0) for group in groups))

    def evaluator(self, choices: Choices) -> Evaluator:
        """Returns the evaluator of a configuration's group."""
        key, _ = self.split(choices)
        if key in self._known:
            return self._known[key]
        others = {axis: c for axis, c in choices.items() if axis not in self._together}
        network = self._family.structure(others)
        base = self.evaluator({}).base_statistics() if key and self._units else None
        found = Evaluator(
            *(network, self._units, self._reestimate, self._settings, base, self._widths)
        )
        # Of what is evaluated once and holds no statistics nothing is kept.
        if self._units or self._widths.groups:
            self._known[key] = found
        return found

    def norms(self, configurations: Mapping[str, Choices]) -> FamilyNorms:
        """Returns the re-estimated statistics of configurations, by their names.

        Scalars are relative to the full network in every group, so that all share kernels.
        """
        mode = self._settings.mode
        if mode is NormMode.SHARED:
            return FamilyNorms(mode)
        found = {
            name: self.evaluator(choices).statistics(self.split(choices)[1])
            for name, choices in configurations.items()
        }
        return FamilyNorms(mode, self.evaluator({}).base_statistics(), found)

    def outputs(
        self, batch: Sequence[Genes], samples: Samples
    ) -> Iterator[tuple[Genes, Mapping[str, NDArray[Any]]]]:
        """Yields configurations with their outputs, group by group, as each is walked."""
        groups: dict[_Key, dict[Genes, Genes]] = {}
        alone: dict[Genes, Choices] = {}
        for genes in batch:
            choices: Choices = self._family.decoded(genes)
            if self._later.isdisjoint(choices):
                key, skipped = self.split(choices)
                groups.setdefault(key, {})[skipped] = genes
            else:
                alone[genes] = choices
        for members in groups.values():
            some = next(iter(members.values()))
            evaluator = self.evaluator(self._family.decoded(some))
            for skipped, outputs in evaluator.outputs(list(members), samples):
                yield members[skipped], outputs
        for genes, choices in alone.items():
            yield genes, self._alone(choices, samples)

    def _alone(self, choices: Choices, samples: Samples) -> Mapping[str, NDArray[Any]]:
        """Returns the outputs of a configuration, which is made as it would be built."""
        family = self._family.with_norms(self.norms({"": choices}))
        network = family.subnet(choices, "").network
        # A call each: what it rounds to may depend on all that is in it.
        return run_on(network, [samples], rows=1)[0]
