"""A prologue as a bundle of its own: what the client's side runs, and sends to the server.

What it draws at random are inputs of its graph: fixed while it is verified, here and on every
device, and drawn anew for each call by the runtime.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.bundle.writer import BundleWriter, InFront
from skipc.compiler.configurations import Configuration, Part
from skipc.compiler.family import Subnet, family_of
from skipc.compiler.graph.costs import parameters
from skipc.compiler.routes import RoutePart, graphs_of, route_of
from skipc.compiler.verify.golden import random_cases, whole_number_bounds
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.prologue import PrologueEntry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.network import Network
    from skipc.compiler.prologue import Prologue
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.manifest import Recipe
    from skipc.runtime.bundle.prologue import Draw

FOLDER = "client"
"""Where it lies in the bundle of the server's side."""
_NAME = "prologue"


def write_client(prologue: Prologue, folder: Path, recipe: Recipe) -> PrologueEntry:
    """Writes the bundle of the client's side, and returns what the server's says of it.

    Args:
        prologue: The prologue.
        folder: That of the server's bundle.
        recipe: How its engines are to be built.

    Raises:
        NumericsError: It computes something else than its reference.
    """
    network, draws = prologue.network, {draw.name: draw for draw in prologue.draws}
    high = whole_number_bounds(network.model)
    cases = random_cases(network.inputs, network.dimensions, high)
    given = [_fixed(case, draws, network, seed) for seed, case in enumerate(cases)]
    entry = PrologueEntry(
        prologue.text, prologue.sha256, network.outputs, draws=prologue.draws
    )
    own = folder / FOLDER
    own.mkdir()
    family = family_of(network)
    with BundleWriter(own, {"": family}, InFront(network.inputs, entry)) as writer:
        subnet = Subnet(network, parameters(network.model.graph))
        file = writer.graph(subnet, _NAME)
        verified = verify_subnet(file.file, _NAME, network, given)
        graphs = graphs_of(_NAME, network)
        writer.add_graphs("", file, graphs, verified.verification)
        route = route_of((), [RoutePart(network, graphs)], network.outputs)
        configuration = Configuration(_NAME, (Part("", {}, _NAME),))
        writer.configuration(
            configuration, route.stages, [[case] for case in verified.expected]
        )
        writer.golden_inputs(given, [])
        writer.finish(FOLDER, {"": prologue.file or file.file}, "fp32", {}, recipe)
    return replace(entry, client=FOLDER, draws=())


def _fixed(case: Case, draws: Mapping[str, Draw], network: Network, seed: int) -> Case:
    """Returns a case with numbers of their distributions in place of what is drawn."""
    random = np.random.default_rng(seed)
    rows = {size: n for spec in network.inputs if spec.name in case and spec.name not in draws
            for size, n in zip(spec.shape, case[spec.name].shape, strict=True)
            if isinstance(size, str)}  # fmt: skip
    drawn = {
        spec.name: draws[spec.name].draw(random, spec.shape_at(rows), spec.dtype)
        for spec in network.inputs
        if spec.name in draws
    }
    return {**case, **drawn}
