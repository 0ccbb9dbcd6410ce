"""From a graph to a plan: parsed, strongly typed, and built.

Built in a thread, so that Ctrl-C ends it and progress is shown meanwhile; for the GPU at hand,
or for those of a profile's generations that the network runs on.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.runtime.bundle.sizes import UNKNOWN, size_at
from skipc.runtime.bundle.tensors import corner_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from skipc.compiler.targets import Progress
    from skipc.compiler.targets.options import TargetOptions
    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle.tensors import Dimension

_LOOK_S = 0.05
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How plans are built.

    Attributes:
        options: The user's options.
        dimensions: The sizes of the free dimensions.
        stripped: Whether weights are left out, to be refitted from the weight store.
        capabilities: Compute capabilities to build ahead for, e.g. ``8.6``; empty for the
            GPU at hand.
    """

    options: TargetOptions
    dimensions: Sequence[Dimension]
    stripped: bool
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A built plan.

    Attributes:
        data: The serialised engine, as a buffer.
        timing_cache: What was timed, for the next build; empty where the library keeps none.
    """

    data: Any
    timing_cache: bytes


def build_plan(
    library: Library,
    name: str,
    network: Network,
    settings: PlanSettings,
    timing_cache: bytes,
    detail: Progress,
) -> Plan:
    """Returns the plan of a network.

    Args:
        library: TensorRT.
        name: Its graph's name, for messages.
        network: The parsed network.
        settings: How it is built.
        timing_cache: What earlier builds timed; may be empty.
        detail: Told which phase of the build is at how many percent.

    Raises:
        TargetError: The builder failed.
        KeyboardInterrupt: Ctrl-C; the builder has stopped.
    """
    with library.listening() as heard:
        config = _config(library, network, settings)
        cache = _attach(library, config, timing_cache)
        cancel = Event()
        monitor = _monitor(library.module, cancel, detail)  # the config does not own it
        config.progress_monitor = monitor
        data = _in_thread(
            lambda: network.builder.build_serialized_network(network.definition, config),
            cancel,
        )
        if data is None:
            raise TargetError(
                f"graph {name!r}: {library.backend} {library.version} cannot"
                f" build its engine: {heard.text()}"
            )
    kept = b"" if cache is None else bytes(memoryview(config.get_timing_cache().serialize()))
    return Plan(data, kept)


def _config(library: Library, network: Network, settings: PlanSettings) -> Any:
    trt, options = library.module, settings.options
    config = network.builder.create_builder_config()
    if settings.stripped:
        # Not REFIT: that gives up fusions, and has dropped biases (TensorRT 11.3).
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    capturable = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if capturable is not None:
        config.set_flag(capturable)  # TensorRT-RTX captures no graph without it
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    profile = profile_of(network, settings.dimensions)
    if profile is not None:
        config.add_optimization_profile(profile)
    if settings.capabilities:
        config.num_compute_capabilities = len(settings.capabilities)
        for index, capability in enumerate(settings.capabilities):
            name = f"SM{capability.replace('.', '')}"
            if not hasattr(trt.ComputeCapability, name):
                raise TargetError(
                    f"{library.backend} {library.version} builds for no GPU of compute"
                    f" capability {capability}. Leave it out of the profile."
                )
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    return config


def _attach(library: Library, config: Any, timing_cache: bytes) -> Any | None:
    """Gives the builder what was timed before; the cache, which must outlive the build."""
    if library.backend != "tensorrt":
        return None  # TensorRT-RTX times nothing while it builds
    cache = config.create_timing_cache(timing_cache)
    if cache is not None and config.set_timing_cache(cache, False):
        return cache
    # Of another GPU or version: begin anew.
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return cache


def _in_thread(build: Callable[[], Any], cancel: Event) -> Any:
    """Returns what ``build`` does. On Ctrl-C it is told to stop and waited for."""
    # Not Thread.join: a Ctrl-C within it can make a running thread pass for a finished one.
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(build())
        except BaseException as cause:
            future.set_exception(cause)

    thread = Thread(target=run, name="skipc-build")
    try:
        thread.start()
        while wait([future], _LOOK_S).not_done:
            pass
    except BaseException:
        cancel.set()
        while thread.ident is not None and not future.done():
            with suppress(KeyboardInterrupt):  # it ends at its next step, not sooner
                wait([future])
        raise
    return future.result()


def _monitor(trt: Any, cancel: Event, detail: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the outermost phase that counts steps, and whether to go on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: int
        ) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            steps = self._steps.get(phase_name, 0)
            if steps > 1 and not cancel.is_set():
                detail(f"{phase_name.lower()}, {min(100, 100 * (step + 1) // steps)} %")
            return not cancel.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


@dataclass(frozen=True)
class Network:
    """A parsed network.

    Attributes:
        definition: The ``INetworkDefinition``.
        builder: The ``Builder`` it belongs to.
        parser: Its parser, which holds the weights until the network is built.
    """

    definition: Any
    builder: Any
    parser: Any


def parse(library: Library, name: str, graph: Path, folder: Path | None = None) -> Network:
    """Returns the network of ``graph``, its weights read from the files that it names.

    Types come from the graph alone: precision is decided before pruning (``--precision``).

    Args:
        library: TensorRT.
        name: The graph's name, for messages.
        graph: Its ONNX file.
        folder: Where the files lie that it takes weights from; None for its own folder.

    Raises:
        TargetError: The parser refuses a node, or cannot read the weights.
    """
    trt = library.module
    with library.listening() as heard:
        builder = trt.Builder(library.logger)
        # Before TensorRT 11 strong typing had to be asked for.
        strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        definition = builder.create_network(0 if strong is None else 1 << int(strong))
        parser = trt.OnnxParser(definition, library.logger)
        if parser.parse(graph.read_bytes(), str((folder or graph.parent) / graph.name)):
            return Network(definition, builder, parser)
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "; ".join(dict.fromkeys(_error_text(error) for error in errors[:_MAX_NAMED]))
        raise TargetError(
            f"graph {name!r}: {library.backend} {library.version} does not take"
            f" {graph.name}: {said or heard.text()}. {heard.text()}"
        )


def profile_of(network: Network, dimensions: Sequence[Dimension]) -> Any | None:
    """Returns the optimisation profile for free dimensions; None where shapes are fixed.

    Which dimension is which is told by the names that the graph gives them.
    """
    inputs = [
        network.definition.get_input(index) for index in range(network.definition.num_inputs)
    ]
    if not dimensions or not any(-1 in tuple(tensor.shape) for tensor in inputs):
        return None
    typical, smallest, largest = corner_sizes(dimensions)
    profile = network.builder.create_optimization_profile()
    for tensor in inputs:
        shapes = [
            tuple(
                size_at(tensor.get_dimension_name(axis) or UNKNOWN, sizes)
                if size == -1
                else size
                for axis, size in enumerate(tuple(tensor.shape))
            )
            for sizes in (smallest, typical, largest)
        ]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _error_text(error: Any) -> str:
    node, operator = error.node_name(), error.node_operator()
    where = f"node {node!r} ({operator}): " if node or operator else ""
    return where + " ".join(error.desc().split()).rstrip(".")


def possible_capabilities(
    library: Library,
    name: str,
    graph: Path,
    folder: Path,
    settings: PlanSettings,
    note: Progress,
) -> tuple[str, ...]:
    """Returns the compute capabilities of ``settings`` that a graph can be built for.

    One that cannot would fail the plan for all: TensorRT-RTX has no float32 matrix products
    on 7.5, for one. ``folder`` is where the graph's weights lie; ``note`` is told what is left
    out, and why.

    Raises:
        TargetError: The graph can be built for none of them.
    """
    network = partial(parse, library, name, graph, folder)
    together = _failure(library, name, network, settings)
    if together is None:
        return settings.capabilities
    alone = {
        capability: _failure(
            library, name, network, replace(settings, capabilities=(capability,))
        )
        for capability in settings.capabilities
    }
    possible = tuple(capability for capability, failed in alone.items() if failed is None)
    if len(possible) == len(alone):
        raise together
    if not possible:
        # What most of them have in common is the cause; the others have one of their own.
        causes = Counter(str(failed) for failed in alone.values())
        raise TargetError(causes.most_common(1)[0][0])
    for capability, failed in alone.items():
        if failed is not None:
            note(
                f"compute capability {capability} is left out: {_brief(str(failed))}. Half"
                " precision (--precision fp16) may include it."
            )
    return possible


def _brief(text: str) -> str:
    """Returns what the library complained of, without where in itself it did."""
    found = re.search(r"\[\w+\.cpp:\d+: \w+\] (.*?)\.? In \w+ at ", text)
    return found[1] if found else text.rstrip(".")


def _failure(
    library: Library, name: str, network: Callable[[], Network], settings: PlanSettings
) -> TargetError | None:
    try:
        build_plan(library, name, network(), settings, b"", lambda text: None)
    except TargetError as cause:
        return cause
    return None
