"""The comparisons that every engine must pass on the device before anyone sees it."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import difference
from skipc.runtime.bundle.route import source_of
from skipc.runtime.bundle.tensors import misfit
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from skipc.runtime.backends import Backend, Engine
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry, Manifest

    Case = dict[str, NDArray[Any]]

LEAST_TOLERANCES = {"onnxruntime-cuda": 2e-3, "tensorrt": 2e-3, "tensorrt-rtx": 2e-3}
"""Errors over the output's range that a GPU's float32 explains, by backend: products are
rounded to TF32's 10 bits, sums taken in another order. Half precision brings a larger one."""


def tolerance_on(backend: str, manifest: Manifest, entry: ConfigurationEntry) -> float:
    """Returns the largest error that a configuration may have with engines of ``backend``."""
    allowed = manifest.verification(entry).tolerance
    return max(allowed, LEAST_TOLERANCES.get(backend, 0.0))


def check_outputs(graph: GraphEntry, found: list[Case]) -> None:
    """Checks that a graph answers what the manifest says.

    Args:
        graph: The graph.
        found: Its outputs, for each golden input.

    Raises:
        IntegrityError: It answers something else.
    """
    for case in found:
        unfit = misfit(case, graph.outputs, {})
        if unfit is not None:
            raise IntegrityError(
                f"graph {graph.name!r}: {unfit}. {graph.file} is not the graph that the"
                " manifest describes; copy the bundle again."
            )


def run_route(
    bundle: Bundle, entry: ConfigurationEntry, engines: Mapping[str, Engine], case: Case
) -> list[tuple[Case, Case]]:
    """Returns what each stage of a route reads and gives, whatever its tests say.

    Args:
        bundle: The bundle.
        entry: The configuration.
        engines: By graph.
        case: The family's inputs; with what a prologue hands over, or without.
    """
    found: list[tuple[Case, Case]] = []
    for stage in entry.route:
        inputs = {}
        for spec in bundle.manifest.graph(stage.graph).inputs:
            feed = stage.feeds.get(spec.name, spec.name)
            source = source_of(feed)
            # What a prologue hands over is the reference's, where the case has it.
            name = feed if source is None else source[1]
            inputs[spec.name] = (
                case[name] if source is None or name in case else found[source[0]][1][name]
            )
        found.append((inputs, engines[stage.graph].run(inputs)))
    return found


def reads_of(bundle: Bundle, load: Callable[[str], Engine], case: Case) -> dict[str, Case]:
    """Returns what each graph of a bundle reads for one case of the family's inputs.

    Args:
        bundle: The bundle.
        load: Loads a graph's engine.
        case: The family's inputs.
    """
    read: dict[str, Case] = {}
    for entry in bundle.manifest.configurations:
        graphs = [graph.name for graph in bundle.manifest.graphs_of(entry)]
        if not all(name in read for name in graphs):
            with ExitStack() as stack:
                engines = {name: stack.enter_context(closing(load(name))) for name in graphs}
                runs = run_route(bundle, entry, engines, case)
            for stage, (given, _) in zip(entry.route, runs, strict=True):
                read.setdefault(stage.graph, given)
    return read


def check_configurations(
    bundle: Bundle,
    backend: Backend,
    whole: Mapping[str, list[Case]],
    inputs: list[Case],
    here: str,
) -> dict[str, Case]:
    """Runs every configuration on the golden inputs, all stages; returns what graphs read.

    Args:
        bundle: The bundle.
        backend: Runs its engines.
        whole: What plain sessions of the files gave for each input, where bits must be equal.
        inputs: The golden inputs.
        here: What computes, e.g. ``this CPU``.

    Raises:
        NumericsError: An answer is too far from the golden outputs, or has other bits.
    """
    read: dict[str, Case] = {}
    for entry in bundle.manifest.configurations:
        with ExitStack() as stack:
            engines = {
                graph.name: stack.enter_context(closing(backend.load(graph.name)))
                for graph in bundle.manifest.graphs_of(entry)
            }
            runs = [run_route(bundle, entry, engines, case) for case in inputs]
        for number, stage in enumerate(entry.route):
            graph = bundle.manifest.graph(stage.graph)
            found = [run[number][1] for run in runs]
            read.setdefault(graph.name, runs[0][number][0])
            before = [
                {name: array for name, array in case.items() if name in found[0]}
                for case in whole.get(graph.file, [])
            ]
            if before:
                check_same_bits(graph.name, before, found)
        stages = [[run[number][1] for run in runs] for number in range(len(entry.route))]
        check_golden(bundle, entry, stages, backend.name, here)
    return read


def check_golden(
    bundle: Bundle, entry: ConfigurationEntry, found: list[list[Case]], backend: str, here: str
) -> None:
    """Checks that this device computes what the reference did when the bundle was built.

    Args:
        bundle: The bundle.
        entry: The configuration whose engines ran.
        found: By stage of its route, the engine's outputs for each golden input.
        backend: The backend that ran them.
        here: What computed, e.g. ``this CPU``.

    Raises:
        NumericsError: They differ by more than the tolerance.
    """
    manifest = bundle.manifest
    checked, tolerance = manifest.verification(entry), tolerance_on(backend, manifest, entry)
    for number, stage in enumerate(entry.route):
        if not stage.answers_at(number):
            continue
        answers = [stage.answer(manifest.outputs, case) for case in found[number]]
        expected = bundle.golden_outputs(entry.name, number)
        error = difference(answers, expected, manifest.ranges(entry))
        if not error.within(tolerance):
            advice = (
                "Build the engines again: skipc finish."
                if error.unlike
                else "Build the bundle with a larger --tolerance, or try another version of"
                " the library that runs it."
            )
            raise NumericsError(
                f"configuration {entry.name!r}: on {here}"
                f" {error.text(checked.reference, tolerance)} {advice}"
            )


def check_same_bits(graph: str, before: list[Case], after: list[Case]) -> None:
    """Checks that packing changed nothing: a wrong offset gives wrong numbers and no error.

    Args:
        graph: The graph's name.
        before: Outputs of the plain session, for each golden input.
        after: Outputs of the session on the packed store.

    Raises:
        NumericsError: An output has other bits.
    """
    for index, (expected, found) in enumerate(zip(before, after, strict=True)):
        for name, array in expected.items():
            same = (
                found[name].dtype == array.dtype
                and found[name].shape == array.shape
                and found[name].tobytes() == array.tobytes()
            )
            if not same:
                error = difference([{name: found[name]}], [{name: array}], {name: 1.0})
                how = f"({error.unlike})" if error.unlike else f"by {error.max_abs_error:.3g}"
                raise NumericsError(
                    f"graph {graph!r}: output {name!r} of golden input {index}"
                    f" changes {how} when the weights are packed. Expected the same"
                    " bits; this onnxruntime version packs weights in a way that skipc does"
                    " not know. Try another version, and report it."
                )
