"""Runs a network on data under many configurations, each shared part once.

Chunks of rows go through ONNX Runtime segment by segment. Where norms are re-estimated, the
re-estimation part goes first, all of it at once: a norm's statistics are those of what it
reads, which already went through the new statistics of the norms before it. Configurations
that agree on everything before a norm share its statistics, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.cut import Narrowed
from skipc.compiler.errors import SelectError
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.norms.statistics import NormMode, pooled_statistics, scaled_statistics
from skipc.compiler.select.absent import AbsentChannels
from skipc.compiler.select.samples import Chunks, chunks_of
from skipc.compiler.select.segments import Piece, cut_graph
from skipc.compiler.select.walk import Key, Plan, Resolver, Run, plan
from skipc.runtime.bundle.tensors import BATCH, sizes_of, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.channels import Carrier
    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width import WidthOffer
    from skipc.compiler.axes.width_groups import Group
    from skipc.compiler.graph.batch_norms import Norm
    from skipc.compiler.network import Network
    from skipc.compiler.norms.statistics import NetworkNorms, NormStatistics
    from skipc.compiler.select.samples import Samples

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How to evaluate.

    Attributes:
        mode: What the norms' statistics are.
        rows: Rows per chunk where the batch is dynamic.
        threads: Threads of ONNX Runtime.
        memory_bytes: How much may be held between segments; what is dropped to keep it is
            computed again. What one chunk needs is held in any case.
    """

    mode: NormMode = NormMode.SHARED
    rows: int = 64
    threads: int = 1
    memory_bytes: int = 2 << 30


def _check_sizes(graph: Network, units: tuple[Unit, ...], samples: Samples) -> None:
    """Raises ``SelectError`` where the zeros in place of units do not fit the data."""
    dense = [unit.name for unit in units if unit.further]
    typical = typical_sizes(graph.dimensions)
    for name, size in sizes_of(samples.inputs, graph.inputs).items() if dense else ():
        if name != BATCH and size != typical[name]:
            raise SelectError(
                f"{dense[0]!r} is concatenated, and such units are evaluated at the typical"
                f" sizes: the data has {name}={size}, the typical one is {typical[name]}. Give"
                " data of that size, or another typical one."
            )


class Evaluator:
    """A network, cut into segments, and the statistics found so far.

    Args:
        graph: The supernet's graph, its norms unfolded; it must not change.
        units: Its units; ``Genes`` has one value for each, other than 0 where it is skipped.
        reestimate: What norm statistics are estimated on; not read in mode ``shared``.
        settings: How to evaluate.
        base: The statistics that scalars are relative to, by the norms' names; None for this
            network's own, with nothing left out.
        widths: Its groups of channels; behind the units' values ``Genes`` says of each how
            many of its channels go. None for a network without.

    Attributes:
        unit_rows: Rows that went through a unit's branch, summed over units and
            configurations: the work that configurations share or do not.
        peak_bytes: The most that was held between segments.
    """

    def __init__(
        self,
        graph: Network,
        units: tuple[Unit, ...],
        reestimate: Samples,
        settings: EvaluationSettings,
        base: NetworkNorms | None = None,
        widths: WidthOffer | None = None,
    ) -> None:
        _check_sizes(graph, units, reestimate)
        self._model = graph.model
        self._widths = widths
        groups = () if widths is None else widths.groups
        self._mode = settings.mode
        self._given_base = base
        self._settings = settings
        self._absent = AbsentChannels(graph.model, units)
        self._segments = cut_graph(
            *(graph.model, units, self._mode is not NormMode.SHARED, groups),
            self._absent.tensors,
        )
        self._full: Genes = (0,) * (len(units) + len(groups))
        sizes = {spec.shape[0] for spec in graph.inputs if spec.shape}
        fixed = next((size for size in sizes if isinstance(size, int)), None)
        self._padded = fixed is not None
        self.rows = fixed or settings.rows
        self._reestimate = chunks_of(reestimate.inputs, self.rows, self._padded)
        self._affine = _multipliers(graph)
        self._masks = _masks(graph, (*groups, *self._absent.groups.values()))
        self._pieces: dict[tuple[str, bool], Piece] = {}
        self._statistics: dict[Key, NormStatistics] = {}
        self._row_bytes: dict[str, int] = {}
        self.unit_rows = 0
        self.peak_bytes = 0

    def outputs(
        self, batch: Sequence[Genes], samples: Samples
    ) -> Iterator[tuple[Genes, Arrays]]:
        """Yields every configuration with its outputs for all rows of ``samples``.

        They come in the order of the walk. What was yielded is done, whatever comes after.
        """
        self._estimate(batch)
        chunks = chunks_of(samples.inputs, self.rows, self._padded)
        steps = self._plan(batch)
        names = self._segments.outputs
        groups = chunks.groups(self._group_size(steps, chunks))
        parts: dict[Genes, list[list[NDArray[Any]]]] = {}
        for group in groups:
            for genes, arrays in self._run(steps, group):
                parts.setdefault(genes, []).append(arrays)
                if len(parts[genes]) == len(groups):
                    whole = [
                        np.concatenate(part) for part in zip(*parts.pop(genes), strict=True)
                    ]
                    yield genes, dict(zip(names, whole, strict=True))

    def statistics(self, genes: Genes) -> NetworkNorms:
        """Returns the statistics of the norms that a configuration runs, by their names.

        Empty in mode ``shared``.
        """
        self._estimate([genes])
        resolver = Resolver(self._segments, genes)
        return {
            norm.name: self._of_mode(norm, key, resolver.key(cut))
            for cut, norm, key in self._norms(genes)
        }

    def base_statistics(self) -> NetworkNorms:
        """Returns the re-estimated statistics of the full network, by the norms' names.

        Empty in mode ``shared``.
        """
        self._estimate([self._full])
        return {norm.name: self._statistics[key] for _, norm, key in self._norms(self._full)}

    def _plan(self, batch: Sequence[Genes]) -> Plan:
        ordered = sorted(set(batch))
        wanted = {genes: Resolver(self._segments, genes).outputs() for genes in ordered}
        return plan(self._segments, wanted)

    def _run(
        self, steps: Plan, chunks: Chunks, pooled: AbstractSet[Key] = frozenset()
    ) -> Iterator[tuple[Genes, list[NDArray[Any]]]]:
        """Yields each configuration with what it wants of these chunks.

        Statistics of what is ``pooled`` are taken at once: nothing is held for them alone.
        """

        def compute(key: Key, inputs: tuple[list[NDArray[Any]], ...]) -> list[NDArray[Any]]:
            values = self._compute(key, steps.inputs[key], inputs, chunks)
            if key in pooled:
                self._pool(key, values, chunks)
            return values

        run = Run(steps, chunks.inputs, compute, self._settings.memory_bytes)
        try:
            for done in run.finished():
                values = [chunks.real(run.value(key)) for key in done.wanted]
                yield done.genes, [np.concatenate(arrays) for arrays in values]
        finally:
            self.peak_bytes = max(self.peak_bytes, run.peak_bytes)

    def _compute(
        self,
        key: Key,
        read: tuple[Key, ...],
        inputs: tuple[list[NDArray[Any]], ...],
        chunks: Chunks,
    ) -> list[NDArray[Any]]:
        constant = self._segments.constants.get(key.name)
        if constant is not None:
            return [np.broadcast_to(constant, (n, *constant.shape[1:])) for n in chunks.rows]
        segment = self._segments.segments[key.name]
        gone = {group: key.gone(group, self._segments.units) for group in segment.groups}
        absent = self._absent.skipped(key.without) if segment.concatenated else frozenset()
        which = key.name, bool(absent) or any(gone.values())
        if which not in self._pieces:
            threads = self._settings.threads
            self._pieces[which] = Piece(self._model, segment, threads, which[1])
        if key.name in self._segments.joins:
            self.unit_rows += sum(chunks.counts)
        fed: dict[str, NDArray[Any]] = {}
        for norm, cut in segment.norms:
            place = segment.inputs.index(cut)
            self._pool(read[place], inputs[place], chunks)
            fed |= self._fed(norm, read[place], key)
        if which[1]:
            kept = {name: self._kept(group, gone[group]) for name, group in segment.read}
            kept |= {name: self._absent.kept(name, absent) for name in segment.concatenated}
            for name, stays in kept.items():
                carrier, dimensions, dtype = self._masks[name]
                beside = Narrowed(name, carrier.axis, carrier.entries(stays)).beside(
                    dimensions
                )
                fed[f"{name}.kept"] = beside.astype(dtype)
        values = []
        for number in range(len(chunks.counts)):
            given = {
                name: arrays[number]
                for name, arrays in zip(segment.inputs, inputs, strict=True)
            }
            values.append(self._pieces[which].run(given | fed))
        self._row_bytes[key.name] = values[0].nbytes // chunks.rows[0]
        return values

    def _estimate(self, batch: Sequence[Genes]) -> None:
        """Finds the statistics of every norm that the configurations run."""
        if self._mode is NormMode.SHARED:
            return
        # Scalars are relative to the full network, and so is nobody without it.
        first = [self._full] if self._given_base is None else []
        for some in (first, sorted(set(batch))):
            wanted = {
                genes: tuple(
                    {k: None for _, _, k in self._norms(genes) if k not in self._statistics}
                )
                for genes in some
            }
            keys = {key for found in wanted.values() for key in found}
            chunks = self._reestimate
            for key in keys & {Key(name, 0) for name in chunks.inputs}:
                self._pool(key, chunks.inputs[key.name], chunks)
            for _ in self._run(plan(self._segments, wanted, read=False), chunks, keys):
                pass

    def _pool(self, key: Key, values: list[NDArray[Any]], chunks: Chunks) -> None:
        if key not in self._statistics:
            self._statistics[key] = pooled_statistics(chunks.real(values))

    def _norms(self, genes: Genes) -> list[tuple[str, Norm, Key]]:
        """Returns the norms that a configuration runs.

        Each with the cut whose segment it is in, and with what it reads.
        """
        resolver = Resolver(self._segments, genes)
        found = []
        for key in resolver.reached():
            segment = self._segments.segments.get(key.name)
            for norm, cut in () if segment is None else segment.norms:
                found.append((key.name, norm, resolver.key(cut)))
        return found

    def _kept(self, group: int, gone: int) -> NDArray[np.bool_]:
        """Returns which channels of a group stay."""
        assert self._widths is not None
        found = self._widths.groups[group]
        return self._widths.kept(found, found.channels - gone)

    def _of_mode(self, norm: Norm, read: Key, key: Key) -> NormStatistics:
        """Returns the statistics of a norm in the segment of ``key``, given what it reads."""
        own = self._statistics[read]
        if self._mode is NormMode.FULL or not norm.folds:
            return own
        (gamma, epsilon), base = self._affine[norm.output], self._base(norm)
        group = self._segments.norm_groups.get(norm.output)
        gone = 0 if group is None else key.gone(group, self._segments.units)
        if group is None or not gone:
            return scaled_statistics(own, base, gamma, epsilon)
        kept = self._kept(group, gone)
        found = scaled_statistics(own.only(kept), base.only(kept), gamma[kept], epsilon)
        return found.among(kept)

    def _fed(self, norm: Norm, read: Key, key: Key) -> dict[str, NDArray[Any]]:
        statistics = self._of_mode(norm, read, key)
        gamma, epsilon = self._affine[norm.output]
        return {
            f"{norm.output}.mean": statistics.mean.astype(gamma.dtype),
            f"{norm.output}.variance": statistics.plain_variance(epsilon).astype(gamma.dtype),
        }

    def _base(self, norm: Norm) -> NormStatistics:
        if self._given_base is not None:
            return self._given_base[norm.name]
        return self._statistics[self._base_keys[norm.output]]

    @cached_property
    def _base_keys(self) -> dict[str, Key]:
        """What each norm reads in the full network, by its output."""
        return {norm.output: key for _, norm, key in self._norms(self._full)}

    def _group_size(self, steps: Plan, chunks: Chunks) -> int:
        """Returns how many chunks fit under the memory cap at once."""
        if any(name not in self._row_bytes for name in self._segments.segments):
            counted = self.unit_rows
            for _ in self._run(self._plan([self._full]), chunks.groups(1)[0]):
                pass
            self.unit_rows = counted
        peak = max(steps.peak(self._row_bytes), 1) * max(self.rows, 1)
        return max(1, self._settings.memory_bytes // peak)


def _multipliers(graph: Network) -> dict[str, tuple[NDArray[Any], float]]:
    """Returns gamma and epsilon of every norm, by the value that it computes."""
    nodes = {str(node.outputs[0].name): node for node in graph.model.graph}
    found = {}
    for norm in find_norms(graph.model):
        gamma = nodes[norm.output].inputs[1]
        assert gamma is not None
        assert gamma.const_value is not None
        epsilon = nodes[norm.output].attributes.get_float("epsilon", 1e-5)
        found[norm.output] = gamma.const_value.numpy(), epsilon
    return found


def _masks(graph: Network, groups: Sequence[Group]) -> dict[str, tuple[Carrier, int, Any]]:
    """Returns of each tensor that is masked where channels lie, its rank and its type."""
    values = {value.name: value for node in graph.model.graph for value in node.outputs}
    found = {}
    for carrier in (carrier for group in groups for carrier in group.read):
        value = values.get(carrier.value)
        if value is not None:
            assert value.shape is not None
            assert value.dtype is not None
            found[carrier.value] = carrier, len(value.shape), value.dtype.numpy()
    return found
