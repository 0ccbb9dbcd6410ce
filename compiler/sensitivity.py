"""Which layers stay float32 so that int8 costs little: found by measurement.

How much int8 changes what each layer makes of its own float inputs is measured in one run. In
that order layers are given back until the metric holds; then those that it holds without are
taken again, the most expensive first. So a few evaluations do where every choice of layers
would take thousands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skipc.compiler.axes.float_layers import FloatLayersAxis
from skipc.compiler.axes.precision import Precision, PrecisionAxis, quantized
from skipc.compiler.errors import CompileError
from skipc.compiler.graph.costs import node_macs
from skipc.compiler.graph.int8_layers import layer_name, rounded_layers
from skipc.compiler.int8_parts import by_noise, restored
from skipc.compiler.select.running import run_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.configurations import Configuration, Part
    from skipc.compiler.family import Family
    from skipc.compiler.network import Network
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.verify.numerics import Case

    Progress = Callable[[str], None]

_TAKEN_AGAIN = 8
"""So many layers are tried in int8 once more."""
_ROUNDING = 1e-9


class Sensitive(NamedTuple):
    """What was found of a network.

    Attributes:
        layers: What stays float32, in network order.
        of: How many layers are quantised without.
        metric: What was measured, in words.
        drop: Points that int8 loses with these layers in float32.
        whole_drop: ... and with none.
        evaluations: How often it was measured.
    """

    layers: tuple[str, ...]
    of: int
    metric: str
    drop: float
    whole_drop: float
    evaluations: int

    @property
    def text(self) -> str:
        """What was found, a sentence."""
        lost = f"int8 loses {self.drop:.3g} points of {self.metric}"
        if not self.layers:
            return f"no layer stays float32: {lost}."
        return (
            f"{len(self.layers)} of {self.of} layers stay float32"
            f" ({', '.join(self.layers)}): {lost}, {self.whole_drop:.3g} without."
        )


def keep_sensitive(
    configurations: Sequence[Configuration],
    families: Mapping[str, Family],
    asked: Precision | None,
    max_drop: float,
    progress: Progress,
    note: Progress,
) -> tuple[Configuration, ...]:
    """Returns configurations in which int8 leaves the layers in float32 that it has to.

    Those that say themselves which layers stay are left as they are.

    Args:
        configurations: The configurations.
        families: The families of their networks, with norm statistics.
        asked: The precision of what names none.
        max_drop: Largest loss against float32, in points.
        progress: Told what is being done.
        note: Told what was found.

    Raises:
        CompileError: No set of layers keeps it.
    """
    known: dict[object, Sensitive] = {}

    def kept(part: Part, name: str) -> Part:
        precision = part.choices.get(PrecisionAxis.key, asked)
        if not isinstance(precision, Precision) or not precision.is_int8:
            return part
        if FloatLayersAxis.key in part.choices:
            return part
        family = families[part.network]
        key = part.chosen, family.norms.family.content(part.statistics)
        if key not in known:
            choices = {**part.choices, PrecisionAxis.key: Precision.FP32}
            network = family.subnet(choices, part.statistics).network
            search = _Search(network, precision, max_drop, name, progress)
            known[key] = search.found()
            note(f"{name}: {known[key].text}")
        layers = known[key].layers
        more = {FloatLayersAxis.key: layers} if layers else {}
        return replace(part, choices={**part.choices, **more})

    return tuple(
        replace(one, parts=tuple(kept(part, one.name) for part in one.parts))
        for one in configurations
    )


class _Search:
    """Looks for the layers of one network that stay float32."""

    def __init__(
        self,
        network: Network,
        precision: Precision,
        max_drop: float,
        name: str,
        progress: Progress,
    ) -> None:
        calibration = network.calibration
        assert calibration is not None
        assert calibration.selection is not None
        self._network, self._precision = network, precision
        self._int8 = quantized(network, precision, (), keep=True)
        self._max_drop, self._name, self._progress = max_drop, name, progress
        self._cases, self._samples = calibration.cases, calibration.selection
        batch = network.batch
        self._rows = 1 if batch is None else batch.typical
        self._exact = self._run(network.model)
        self._judge = judge_of(network, self._exact, self._samples)
        self._evaluations = 0
        self._most = 0

    def found(self) -> Sensitive:
        """Returns the layers.

        Raises:
            CompileError: All of them would have to stay float32.
        """
        nodes = rounded_layers(self._network.model.graph)
        layers = tuple(dict.fromkeys(map(layer_name, nodes)))
        self._most = 1 + len(layers).bit_length() + min(len(layers), _TAKEN_AGAIN)
        whole_drop = drop = self._drop(())
        kept: tuple[str, ...] = ()
        if drop > self._max_drop + _ROUNDING:
            order = by_noise(self._network.model, self._int8, self._cases)
            kept, drop = self._fewest(order)
            if len(kept) == len(layers):
                raise CompileError(
                    f"configuration {self._name!r}: {self._precision.value} loses"
                    f" {whole_drop:.3g} points of {self._judge.name}, and at most"
                    f" {self._max_drop:g} (--max-drop) only with all layers in float32. Allow"
                    " more, or build it in another precision."
                )
            macs: Counter[str] = Counter()
            for node in nodes:
                macs[layer_name(node)] += node_macs(node)
            for name in sorted(kept, key=lambda each: -macs[each])[:_TAKEN_AGAIN]:
                fewer = tuple(each for each in kept if each != name)
                if fewer and (less := self._drop(fewer)) <= self._max_drop + _ROUNDING:
                    kept, drop = fewer, less
        kept = tuple(name for name in layers if name in kept)
        judged = self._judge.name
        return Sensitive(kept, len(layers), judged, drop, whole_drop, self._evaluations)

    def _fewest(self, order: Sequence[str]) -> tuple[tuple[str, ...], float]:
        """Returns the shortest beginning of an order of layers with which the metric holds."""
        fails, holds, drop = 0, len(order), 0.0
        while holds - fails > 1:
            middle = (fails + holds) // 2
            found = self._drop(order[:middle])
            if found <= self._max_drop + _ROUNDING:
                holds, drop = middle, found
            else:
                fails = middle
        return tuple(order[:holds]), drop

    def _drop(self, floating: Sequence[str]) -> float:
        """Returns the points that int8 loses with some layers in float32."""
        self._evaluations += 1
        self._progress(
            f"looking for sensitive layers of {self._name}"
            f" ({self._evaluations} of at most {self._most})"
        )
        model = restored(self._network.model, self._int8, floating)
        return self._judge.points(self._run(model))

    def _run(self, model: ir.Model) -> Case:
        return run_on(self._network, [self._samples], self._rows, model)[0]


@dataclass(frozen=True, slots=True)
class Judge:
    """Tells what int8 costs.

    Attributes:
        name: What is measured, in words.
        points: Of a network's outputs for all samples, what they lose against float32.
    """

    name: str
    points: Callable[[Case], float]


def judge_of(network: Network, exact: Case, samples: Samples) -> Judge:
    """Returns how to tell what int8 costs.

    With labels that fit, it is accuracy. Without, it is the mean cosine of each sample's
    outputs with those in float32: what an embedding turns by.

    Args:
        network: The network.
        exact: Its outputs in float32.
        samples: What they are of.
    """
    answers = tuple(network.answers[-1].values())
    scores, targets = exact[answers[0]], samples.targets
    whole = targets.ndim == 1 and targets.dtype.kind in "iu"
    classes = scores.shape[1] if len(answers) == 1 and scores.ndim == 2 else 0
    if whole and targets.min() >= 0 and targets.max() < classes:
        right = (scores.argmax(1) == targets).mean()

        def lost(outputs: Case) -> float:
            return float(100 * (right - (outputs[answers[0]].argmax(1) == targets).mean()))

        return Judge("accuracy", lost)

    def turned(outputs: Case) -> float:
        return float(
            100 * (1 - np.mean([_cosines(outputs[name], exact[name]) for name in answers]))
        )

    return Judge("cosine to float32", turned)


def _cosines(found: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the cosine of each row with the other array's."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (found, wanted))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.float64] = (a * b).sum(1) / np.maximum(lengths, np.finfo(float).tiny)
    return cosines
